"""The keys of both kinds of value model."""

from typing import ClassVar

from pydantic import Field

from unmask.configs.methods import Source
from unmask.configs.section import Section
from unmask.types import Baseline


class ValueSection(Section):
    """TraceRL's value model: an advantage for each token, what followed it less its value."""

    sources: ClassVar[tuple[Source, ...]] = ("rollouts",)
    has_value_model: ClassVar[bool] = True
    baseline: Baseline = "group_std"
    """What the reward of a response, which its last denoising step earns, is compared with first;
    rewards along the response are taken as they are."""
    lr: float = Field(default=5e-6, gt=0)
    """Learning rate of the value model, of its head alone on the policy's backbone; the default is the
    published one, a tiny model wants about five times its policy's. Its schedule, warm-up,
    `reset_every_step` and the rest are those of `optimizer`."""
    gamma: float = Field(default=1.0, ge=0, le=1)
    """Discount per denoising step; published: 1 for a reward per response, 0.99 for rewards along
    the response."""
    lam: float = Field(default=1.0, ge=0, le=1)
    """GAE's lambda: 1 sums rewards to the end of the response, 0 looks one denoising step ahead."""
    clip: float = Field(default=0.2, gt=0)
    """A value is moved at most this far from what it was at the start of the step."""
