"""`[eval]`: how often, on what and with which sampling a model is measured."""

from typing import Literal

from pydantic import Field

from unmask.configs.sampling import SamplingConfig
from unmask.configs.section import Section


class EvalSection(Section):
    """When a training run measures its model, and on what."""

    every: int = Field(default=0, ge=0)
    """Steps between evaluations; 0 evaluates only at the end of the run (and not at all if
    `problems` is 0)."""
    split: Literal["validation", "test"] = "validation"
    """Which held-out problems."""
    problems: int = Field(default=512, ge=0)
    """Most problems of the split."""
    samples: int = Field(default=1, ge=1, le=2**16)
    """Responses per problem; accuracy is their mean (avg@n)."""
    sampling: SamplingConfig | None = None
    """How evaluation responses are unmasked; as in training (SFT: the defaults) when not given."""
