"""`[noise]`: which tokens a training view hides."""

from typing import Literal

from pydantic import Field, model_validator

from unmask.configs.section import Section


class NoiseConfig(Section):
    """Which tokens of a response SFT hides."""

    noise: Literal["per_block", "per_token"] = "per_block"
    """`per_block` draws one noise level t per noisy block (under full attention, per response),
    `per_token` one per token (the published variant for blocks)."""
    low: float = Field(default=0.1, gt=0, le=1)
    """Lowest noise level t: the probability that a token is hidden."""
    high: float = Field(default=0.9, gt=0, le=1)
    """Highest noise level t."""
    views: int = Field(default=1, ge=1, le=1024)
    """Independent noisy views of each response per pass; in blocks, they share its clean copy."""
    canvas_tokens: int | Literal["longest"] | None = None
    """Under full attention, fewest slots of a canvas: what a shorter response leaves free is hidden
    and never scored, as when a sampler is given so many `max_tokens`. `longest` (published) is the
    longest response of the data. Without it a canvas ends where its response does, and tells the
    model how long the answer is."""
    weight: Literal["one", "elbo"] = "one"
    """Weight of a hidden token: 1, or 1/t, which makes the loss a bound on the likelihood."""

    @model_validator(mode="after")
    def _ordered(self) -> "NoiseConfig":
        if self.low > self.high:
            raise ValueError(f"low = {self.low} is above high = {self.high}")
        if isinstance(self.canvas_tokens, int) and self.canvas_tokens < 1:
            raise ValueError(f"canvas_tokens = {self.canvas_tokens} must be at least 1")
        return self
