"""`advantage.kind = "shared_value"`: a value head on the policy's own backbone."""

from typing import Literal

from pydantic import Field

from unmask.configs.methods.value_section import ValueSection


class SharedValueAdvantage(ValueSection):
    """A second head, trained in the policy's optimizer steps; no second model."""

    kind: Literal["shared_value"] = "shared_value"
    """What a token is compared with: a value read off the policy's own backbone."""
    weight: float = Field(default=0.5, gt=0)
    """Weight of the value loss; the policy's has 1."""
    head_path: str | None = None
    """Directory or hub id whose value head is taken; a new head, whose values are 0, when not given."""
