"""The keys of views that hide tokens at random: noise levels, and how many masks are drawn."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from unmask.configs.methods.view_section import ViewSection


class RandomMask(ViewSection):
    """Masks with noise levels t ~ U(low, high)."""

    has_noise_levels: ClassVar[bool] = True
    level: Literal["response", "block", "token"] = "block"
    """What shares one noise level t: a `response`, a `block` (under full attention that is the
    response) or nothing but the `token` (published for block models)."""
    low: float = Field(default=0.1, gt=0, le=1)
    """Lowest noise level t: the probability that a token is hidden."""
    high: float = Field(default=0.9, gt=0, le=1)
    """Highest noise level t; each is drawn uniformly between the two."""
    count: int = Field(default=1, ge=1, le=1024)
    """Masks of each response; in block-causal models their views share one clean copy."""
    spread: Literal["independent", "cyclic", "rising"] = "independent"
    """How the noise levels of the masks of one response are related: `independent` draws each, `cyclic`
    spaces them evenly over the range from a drawn start, around its end; `rising` spaces them evenly
    from a drawn one up to the highest (UniGRPO)."""

    @model_validator(mode="after")
    def _ordered(self) -> "RandomMask":
        if self.low > self.high:
            raise ValueError(f"low = {self.low} is above high = {self.high}")
        return self
