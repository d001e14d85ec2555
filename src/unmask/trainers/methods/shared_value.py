"""`advantage.kind = "shared_value"`: a value head on the policy's backbone, trained in the same steps."""

from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

from unmask.checkpoints.value_model_files import load_head
from unmask.configs.methods.advantage.shared_value import SharedValueAdvantage
from unmask.configs.rl import RLConfig
from unmask.diffusion.views import Views
from unmask.distributed.world import ALONE, World
from unmask.models.transformer import Model
from unmask.models.value_model import ActorCritic
from unmask.trainers.checkpointer import ValueTraining
from unmask.trainers.learner import Learner
from unmask.trainers.losses import build_joint_objective, build_policy_objective
from unmask.trainers.policy_update import PolicyUpdate
from unmask.trainers.reference import build_reference
from unmask.trainers.rl_update import RLUpdate, rate_of
from unmask.trainers.rollout_views import outcome_columns
from unmask.trainers.value_targets import ValueTargets, value_targets
from unmask.types import Group


def build(
    config: RLConfig, policy: Model, saved: Path | None = None, world: World = ALONE
) -> RLUpdate:
    """Build the update of policy and value head together.

    Raises:
        ValueError: as `build_reference`; or the checkpoint has no value head to take.
    """
    assert isinstance(config.advantage, SharedValueAdvantage)
    both = ActorCritic(policy)
    if (head := saved or config.advantage.head_path) is not None:
        load_head(both.value_head, head)
    learner = Learner(both, config.optimizer, {"value_head.weight": config.advantage.lr}, world)
    objective = build_joint_objective(build_policy_objective(config), config.advantage)
    reference = build_reference(config, policy, world)
    update = PolicyUpdate(learner, config, objective, reference, has_old_logprobs=True)

    def step_update(
        groups: Sequence[Group], views: Sequence[Views], step: int, seed: int
    ) -> dict[str, float]:
        targets = estimate(learner, groups, views, config)
        right = outcome_columns(groups, targets.views, config)
        columns = [{**a, **b} for a, b in zip(targets.columns(), right, strict=True)]
        metrics = update(targets.views, seed, rate_of(config, step), columns)
        return metrics | targets.metrics

    assert isinstance(learner.model, ActorCritic)
    return RLUpdate(learner, step_update, ValueTraining(learner.model))


def estimate(
    learner: Learner, groups: Sequence[Group], views: Sequence[Views], config: RLConfig
) -> ValueTargets:
    """Return returns and an advantage for every token, from one forward pass of the learner.

    The same pass gives the old log-probabilities, so the views come back with both.
    """
    values, old = learner.read(views, attrgetter("values"), attrgetter("logprobs"))
    scored = [replace(v, old_logprobs=o) for v, o in zip(views, old, strict=True)]
    return value_targets(groups, scored, values, config)
