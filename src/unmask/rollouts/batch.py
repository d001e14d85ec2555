"""The groups of one step, filled in rounds.

Groups without gradient are filtered out, and a step may draw new prompts in their place: each round draws
exactly as many as are missing, until enough are kept or `filter.refill` extra rounds are used (dynamic
sampling of DAPO, arXiv 2503.14476). So every kept group is trained on, and the number of prompts drawn
depends on the step's responses only: a resumed run draws the same ones.
"""

from collections.abc import Sequence

from unmask.configs.rollout import FilterConfig
from unmask.rollouts.filters import is_kept
from unmask.seeds import derive_seed
from unmask.types import Group


class Batch:
    """Groups of one step.

    Attributes:
        groups: all that were drawn, in order.
        kept: the groups that are trained on.
        num_rounds: rounds so far.
    """

    def __init__(self, num_prompts: int, config: FilterConfig) -> None:
        """Start empty.

        Args:
            num_prompts: number of groups to keep.
            config: which groups are kept, and the most extra rounds.
        """
        self.groups: list[Group] = []
        self.kept: list[Group] = []
        self.num_rounds = 0
        self._num_prompts = num_prompts
        self._config = config

    @property
    def missing(self) -> int:
        """Number of prompts of the next round."""
        return self._num_prompts - len(self.kept)

    @property
    def is_open(self) -> bool:
        """Whether there is a next round."""
        return self.missing > 0 and self.num_rounds <= self._config.refill

    def add(self, groups: Sequence[Group]) -> None:
        """Add the groups of a round."""
        self.num_rounds += 1
        self.groups += groups
        self.kept += [group for group in groups if is_kept(group, self._config)]

    def seed(self, seed: int) -> int:
        """Return the seed of the next round; that of the first round is the step's own.

        A prompt that is drawn again in a later round must get different responses.
        """
        return derive_seed(seed, self.num_rounds) if self.num_rounds else seed

    def numbers(self) -> dict[str, float]:
        """Return the metrics of how the step was filled."""
        return {
            "groups_drawn": len(self.groups),
            "groups_trained": len(self.kept),
            "rollout_rounds": self.num_rounds,
        }
