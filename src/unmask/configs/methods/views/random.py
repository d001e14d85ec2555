"""`views.kind = "random"`: random masks of the whole response, in SFT and in RL."""

from typing import ClassVar, Literal

from unmask.configs.methods import Source
from unmask.configs.methods.random_mask import RandomMask


class RandomViews(RandomMask):
    """One view per mask."""

    sources: ClassVar[tuple[Source, ...]] = ("demonstrations", "pairs", "rollouts")
    kind: Literal["random"] = "random"
    """How a response becomes noisy views: `random` hides random tokens; in block-causal models that is
    `block`."""
