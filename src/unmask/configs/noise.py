"""`[noise]`: which tokens a training view hides."""

from typing import Literal

from pydantic import Field, model_validator

from unmask.configs.section import Section


class NoiseConfig(Section):
    """Which tokens of a response SFT hides."""

    noise: Literal["per_block", "per_token"] = "per_block"
    """`per_block` draws one noise level t per noisy block, `per_token` one per token (the published
    variant)."""
    low: float = Field(default=0.1, gt=0, le=1)
    """Lowest noise level t: the probability that a token is hidden."""
    high: float = Field(default=0.9, gt=0, le=1)
    """Highest noise level t."""
    views: int = Field(default=1, ge=1)
    """Independent noisy views of each response per pass; they share its clean copy."""
    weight: Literal["one", "elbo"] = "one"
    """Weight of a hidden token: 1, or 1/t, which makes the loss a bound on the likelihood."""

    @model_validator(mode="after")
    def _ordered(self) -> "NoiseConfig":
        if self.low > self.high:
            raise ValueError(f"low = {self.low} is above high = {self.high}")
        return self
