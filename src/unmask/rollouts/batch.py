"""A step's groups while it is being filled.

Groups that carry no gradient are left out, and a step may ask new prompts in their place: a round asks
exactly as many as are missing, until enough are kept or `filter.refill` extra rounds were spent
(dynamic sampling of DAPO, arXiv 2503.14476). So no group that is kept is thrown away, and how many
prompts a step has drawn depends on its answers alone: a resumed run draws the same ones.
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
        kept: those of them that are trained on.
        num_rounds: rounds so far.
    """

    def __init__(self, num_prompts: int, config: FilterConfig) -> None:
        """Start empty.

        Args:
            num_prompts: how many groups are wanted.
            config: which are kept, and how many extra rounds there may be.
        """
        self.groups: list[Group] = []
        self.kept: list[Group] = []
        self.num_rounds = 0
        self._num_prompts = num_prompts
        self._config = config

    @property
    def missing(self) -> int:
        """How many prompts the next round asks."""
        return self._num_prompts - len(self.kept)

    @property
    def is_open(self) -> bool:
        """Whether there is a next round."""
        return self.missing > 0 and self.num_rounds <= self._config.refill

    def add(self, groups: Sequence[Group]) -> None:
        """Take the groups of a round."""
        self.num_rounds += 1
        self.groups += groups
        self.kept += [group for group in groups if is_kept(group, self._config)]

    def seed(self, seed: int) -> int:
        """Return the seed of the next round; the first is the step's own.

        A prompt that comes again in a later round must get other answers.
        """
        return derive_seed(seed, self.num_rounds) if self.num_rounds else seed

    def numbers(self) -> dict[str, float]:
        """Return how the step was filled, as it stands in `metrics.jsonl`."""
        return {
            "groups_drawn": len(self.groups),
            "groups_trained": len(self.kept),
            "rollout_rounds": self.num_rounds,
        }
