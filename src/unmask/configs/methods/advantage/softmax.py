"""`advantage.kind = "softmax"`: exponential weights of a group, for and against (wd1, arXiv 2507.08838)."""

from typing import ClassVar, Literal

from pydantic import Field

from unmask.configs.methods import Source
from unmask.configs.section import Section


class SoftmaxAdvantage(Section):
    """One advantage per response, between -G and G."""

    sources: ClassVar[tuple[Source, ...]] = ("rollouts",)
    has_value_model: ClassVar[bool] = False
    baseline: ClassVar[Literal["softmax"]] = "softmax"
    kind: Literal["softmax"] = "softmax"
    """What a reward is compared with: `softmax` is `G (softmax(psi A) - softmax(-psi A))` over the `G`
    responses to one prompt, where A is the reward less their mean."""
    psi: float = Field(default=1.0, gt=0)
    """Inverse temperature of both softmaxes; published: 1."""
