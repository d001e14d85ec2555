"""The keys of losses that are a function of all views of a response together."""

from typing import Annotated, ClassVar

from pydantic import Field

from unmask.configs.methods import Source
from unmask.configs.section import Section
from unmask.types import PositionReduction

Low = Annotated[float, Field(gt=0, lt=1)]
High = Annotated[float, Field(gt=0)]


class ViewsLoss(Section):
    """A loss of a response, with one advantage; each update scores its views once more, without gradients."""

    sources: ClassVar[tuple[Source, ...]] = ("rollouts",)
    bounds_likelihood: ClassVar[bool] = True
    """Whether the estimate from the views must be one of the ELBO."""
    reduction: PositionReduction = "sequence"
    """What the loss is averaged over: every response the same (`sequence`), every token (`tokens`), or
    every response divided by `sampling.max_tokens` (`constant`)."""


class AnchoredLoss(ViewsLoss):
    """One with a KL penalty."""

    kl: float = Field(default=0.0, ge=0)
    """Weight of the KL divergence from the policy that `kl_to` names."""
    kl_to: str = Field(default="step", min_length=1)
    """`step` is the policy that starts the step, `reference` the frozen model that the run starts from;
    anything else is the directory or hub id of a frozen model."""
