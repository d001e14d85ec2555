"""`[eval]`: how often, on which problems and with which sampling a training run evaluates its model."""

from typing import Literal

from pydantic import Field

from unmask.configs.sampling import SamplingConfig
from unmask.configs.section import Section


class EvalSection(Section):
    """Evaluation during training."""

    every: int = Field(default=0, ge=0)
    """Steps between evaluations; 0 evaluates only at the end of the run (and not at all if
    `problems` is 0)."""
    split: Literal["validation", "test"] = "validation"
    """Split of the held-out problems."""
    problems: int = Field(default=512, ge=0)
    """Maximum number of problems, the first ones of the split."""
    samples: int = Field(default=1, ge=1, le=2**16)
    """Responses per problem; accuracy is their mean (avg@n)."""
    sampling: SamplingConfig | None = None
    """How evaluation responses are unmasked; if not given, as in training (SFT: the defaults)."""
