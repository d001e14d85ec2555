"""`advantage.kind = "value"`: a value model with weights of its own (TraceRL, arXiv 2509.06949)."""

from typing import Literal

from pydantic import Field

from unmask.configs.lora import LoRAConfig
from unmask.configs.methods.value_section import ValueSection


class ValueAdvantage(ValueSection):
    """A second model with an optimizer of its own; with `lora`, adapters instead of a second model."""

    kind: Literal["value"] = "value"
    """What a token is compared with: the value of the state before it was revealed."""
    lora: LoRAConfig | None = None
    """Train adapters and the head instead of all weights; with the policy's `[lora]` and without `path`
    they stand on the policy's frozen weights, which are then held once."""
    path: str | None = None
    """Directory or hub id the value model starts from; the policy's `model.path` when not given."""
    head: Literal["zero", "stored"] = "zero"
    """`zero` starts from a new head, whose values are 0; `stored` from the head that an earlier run
    saved."""
    train_every: int = Field(default=1, ge=1)
    """RL steps between the value model's updates; its values are used in every step."""
    minibatches: int = Field(default=1, ge=1)
    """Its optimizer steps per epoch, over the trajectories of one RL step."""
    epochs: int = Field(default=1, ge=1)
    """Its passes over the trajectories of one RL step."""
