"""`advantage.kind = "group_std"` and its like: the advantages that the views come with."""

from collections.abc import Sequence
from pathlib import Path

from unmask.configs.rl import RLConfig
from unmask.diffusion.views import Views
from unmask.distributed.world import ALONE, World
from unmask.models.transformer import Model
from unmask.trainers.learner import Learner
from unmask.trainers.losses import build_policy_objective
from unmask.trainers.policy_update import PolicyUpdate
from unmask.trainers.reference import build_reference
from unmask.trainers.rl_update import RLUpdate, rate_of
from unmask.trainers.rollout_views import outcome_columns
from unmask.types import Group


def build(
    config: RLConfig, policy: Model, saved: Path | None = None, world: World = ALONE
) -> RLUpdate:
    """Build the update of a policy alone."""
    learner = Learner(policy, config.optimizer, world=world)
    reference = build_reference(config, policy, world)
    update = PolicyUpdate(learner, config, build_policy_objective(config), reference)

    def step_update(
        groups: Sequence[Group], views: Sequence[Views], step: int, seed: int
    ) -> dict[str, float]:
        columns = outcome_columns(groups, views, config)
        return update(views, seed, rate_of(config, step), columns)

    return RLUpdate(learner, step_update)
