"""`advantage.kind = "progress"`: rewards of drafts along the denoising steps of a response (MDPO)."""

from typing import ClassVar, Literal

from unmask.configs.methods import Source
from unmask.configs.section import Section


class ProgressAdvantage(Section):
    """One advantage per draft (MDPO, arXiv 2508.13148)."""

    sources: ClassVar[tuple[Source, ...]] = ("rollouts",)
    has_value_model: ClassVar[bool] = False
    baseline: ClassVar[Literal["progress"]] = "progress"
    kind: Literal["progress"] = "progress"
    """What a reward is compared with: `progress` adds what a draft earns more than the one before it to the mean
    reward of the drafts after it, and compares the sum with that of the other responses' drafts of the same
    number, (sum - mean) / std. Needs `rollout.drafts`."""
