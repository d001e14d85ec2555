"""`[advantage]`, `[objective]`, `[filter]`: what RL makes of the rewards."""

from typing import Literal

from pydantic import Field, model_validator

from unmask.configs.section import Section

Reduction = Literal["tokens", "sequence", "view", "constant"]


class AdvantageConfig(Section):
    """What a response's reward is compared with."""

    baseline: Literal["group_std", "group"] = "group_std"
    """`group_std` is (reward - mean) / std over the answers to one prompt, as published; `group`
    leaves the std out."""


class FilterConfig(Section):
    """Which groups of answers carry a gradient worth its cost."""

    low: float | None = None
    """Groups whose mean reward is below this are left out."""
    high: float | None = None
    """Groups whose mean reward is above this are left out."""
    drop_uniform: bool = True
    """Leave out groups in which every answer earned the same: their advantages are all zero."""

    @model_validator(mode="after")
    def _ordered(self) -> "FilterConfig":
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low = {self.low} is above high = {self.high}")
        return self


class ObjectiveConfig(Section):
    """The clipped surrogate of TraceRL."""

    clip_low: float = Field(default=0.2, gt=0, lt=1)
    """The probability ratio is clipped from below at 1 - clip_low; no effect when `minibatches` is 1."""
    clip_high: float = Field(default=0.2, gt=0)
    """The probability ratio is clipped from above at 1 + clip_high; no effect when `minibatches` is 1."""
    kl: float = Field(default=0.0, ge=0)
    """Weight of the k3 estimate of the KL divergence from the policy that starts the step."""
    reduction: Reduction = "tokens"
    """What the loss is averaged over; `constant` is the published choice for block models, `view`
    for full attention."""
    shrink: int = Field(default=1, ge=1)
    """Neighbouring reveals merged into one view: fewer views, coarser conditionals."""
    post_num: int = Field(default=0, ge=0)
    """Slots right of the stop token, counted over the response, that are trained as well."""
