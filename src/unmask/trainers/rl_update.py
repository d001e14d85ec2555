"""One RL step's update: where it is chosen who tells a token what it is worth, and what is trained.

    no critic               every token of a response has the response's advantage over its group
    a critic of its own     it judges, learns at its own pace, and then the policy learns from it
    the policy's backbone   it judges, and both learn in the same optimizer steps

The loop calls one function and knows of none of this.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.configs.rl import RLConfig
from unmask.diffusion.views import Views
from unmask.models.transformer import Model
from unmask.trainers.critic import Critic, SharedCritic
from unmask.trainers.critic_model import build_actor_critic, build_value_model
from unmask.trainers.learner import Learner
from unmask.trainers.policy_update import PolicyUpdate
from unmask.trainers.schedule import learning_rate
from unmask.trainers.scorer import build_reference
from unmask.types import Group

# A step's groups, the views of their trajectories, the step counted from 1 and its seed; to its numbers.
StepUpdate = Callable[[Sequence[Group], Sequence[Views], int, int], dict[str, float]]


@dataclass(frozen=True, slots=True)
class RLUpdate:
    """What a run trains, and one step of it.

    Attributes:
        learner: trains the policy.
        critic: judges, if there is one.
        step: learns from a step's groups and returns the numbers of the step.
    """

    learner: Learner
    critic: Critic | SharedCritic | None
    step: StepUpdate


def build_update(config: RLConfig, model: Model, kept: Path | None = None) -> RLUpdate:
    """Build what a config trains.

    Args:
        config: the run's.
        model: the policy.
        kept: the `critic/` of the run's last checkpoint, if there is one.

    Raises:
        ValueError: the views of the method are no denoising steps; or as `build_reference`,
            `build_value_model` and `build_actor_critic`.
    """
    if not config.value.enabled:
        return _without_critic(config, model)
    if config.objective.method != "trace":
        raise ValueError(
            f'value.enabled needs objective.method = "trace": under {config.objective.method!r} no '
            "view is the state before a denoising step"
        )
    build = _on_one_backbone if config.value.shares_backbone else _beside_a_critic
    return build(config, model, kept)


def _without_critic(config: RLConfig, model: Model) -> RLUpdate:
    learner = Learner(model, config.optimizer)
    policy = PolicyUpdate(learner, config, build_reference(config, model))

    def step_update(
        groups: Sequence[Group], views: Sequence[Views], step: int, seed: int
    ) -> dict[str, float]:
        return policy(views, seed, rate_of(config, step))

    return RLUpdate(learner, None, step_update)


def _beside_a_critic(config: RLConfig, model: Model, kept: Path | None) -> RLUpdate:
    learner = Learner(model, config.optimizer)
    policy = PolicyUpdate(learner, config, build_reference(config, model))
    critic = Critic(build_value_model(config, model, kept), config)

    def step_update(
        groups: Sequence[Group], views: Sequence[Views], step: int, seed: int
    ) -> dict[str, float]:
        judgement = critic.judge(groups, views)
        judged = critic.update(judgement, step, seed)
        return policy(judgement.views, seed, rate_of(config, step)) | judged

    return RLUpdate(learner, critic, step_update)


def _on_one_backbone(config: RLConfig, model: Model, kept: Path | None) -> RLUpdate:
    both = build_actor_critic(config, model, kept)
    learner = Learner(both, config.optimizer, {"value_head.weight": config.value.lr})
    critic = SharedCritic(both, learner, config)
    policy = PolicyUpdate(learner, config, build_reference(config, model), is_judged=True)

    def step_update(
        groups: Sequence[Group], views: Sequence[Views], step: int, seed: int
    ) -> dict[str, float]:
        judgement = critic.judge(groups, views)
        rate = rate_of(config, step)
        return policy(judgement.views, seed, rate, judgement.known()) | judgement.numbers

    return RLUpdate(learner, critic, step_update)


def rate_of(config: RLConfig, step: int) -> float:
    """Return the policy's learning rate at an RL step, counted from 1."""
    return learning_rate(config.optimizer, step - 1, config.steps)
