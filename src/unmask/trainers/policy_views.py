"""From a step's groups to the views that are trained: where the method of RL is chosen.

    method   views                                               old log-probabilities
    trace    the states the sampler was in, `shrink` as one      the engine's, if nothing is merged
    random   `mask_views` random masks of the response           the learner's, same masks
    coupled  the same, and the complement of each                the learner's, same masks

`train_block` lays a block-causal trajectory on a coarser grid first. Its blocks are whole blocks of
the rollout's grid, so the step map stands as it is and numbers the reveals of the larger block.

Views carry their trajectory's advantage over its baseline. Who has better ones (a critic has one per
token) lays them over `Views.advantages (C,)` afterwards.
"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from unmask.configs.objective import AdvantageConfig, ObjectiveConfig
from unmask.configs.rl import RLConfig
from unmask.diffusion.masked_views import masked_views
from unmask.diffusion.noise import NoiseSchedule
from unmask.diffusion.views import Views, views_of_trajectory
from unmask.models.spec import ModelSpec
from unmask.objectives.advantages import advantages_of_rewards, overlong_penalty
from unmask.runs.trajectories import group_totals
from unmask.types import Group, Reward, Trajectory


def trajectory_views(
    groups: Sequence[Group], config: RLConfig, is_full: bool = False, step: int = 1
) -> list[Views]:
    """Return the views of every trajectory, with its advantage, group by group.

    Args:
        groups: that are trained on.
        config: method, baseline and penalty.
        is_full: whether the model's attention is full.
        step: RL step, counted from 1, for the schedule of `objective.train_block`.
    """
    block = config.objective.train_block_at(step)
    advantages = step_advantages(groups, config.advantage)
    return [
        policy_views(
            enlarge_blocks(trajectory, block) if block else trajectory,
            advantage,
            config.objective,
            is_full,
        )
        for group, of_group in zip(groups, advantages, strict=True)
        for trajectory, advantage in zip(group.trajectories, of_group, strict=True)
    ]


def policy_views(
    trajectory: Trajectory,
    advantage: float | Sequence[float],
    config: ObjectiveConfig,
    is_full: bool = False,
) -> Views:
    """Return the views a method trains a trajectory in.

    Args:
        trajectory: what the engine wrote.
        advantage: one number, or one per response token.
        config: the method.
        is_full: whether the model's attention is full.

    Raises:
        ValueError: if a revealed token was changed later.
    """
    traced = views_of_trajectory(trajectory, advantage, config.shrink, config.post_num, is_full)
    if config.method == "trace":
        return traced
    schedule = NoiseSchedule(
        config.mask_low, config.mask_high, config.mask_level == "per_token", is_elbo=False
    )
    return masked_views(
        traced,
        trajectory.sampling.seed,
        config.mask_views,
        schedule,
        config.method == "coupled",
        is_full,
    )


def enlarge_blocks(trajectory: Trajectory, block: int) -> Trajectory:
    """Return a block-causal trajectory as if it had been written in larger blocks.

    Its canvas is filled up to whole blocks of the new grid, by slots that were never revealed.

    Args:
        trajectory: what the engine wrote.
        block: a multiple of its own.
    """
    num_tokens = len(trajectory.prompt.token_ids) + len(trajectory.canvas_ids)
    more = -num_tokens % block
    return replace(
        trajectory,
        canvas_ids=(*trajectory.canvas_ids, *[0] * more),  # hidden in every view
        step_map=(*trajectory.step_map, *[0] * more),
        behavior_logprobs=(*trajectory.behavior_logprobs, *[0.0] * more),
        sampling=replace(trajectory.sampling, block_size=block),
    )


def check_train_block(objective: ObjectiveConfig, block: int | None, spec: ModelSpec) -> None:
    """Refuse training blocks that the rollouts' do not fit into.

    Args:
        objective: `train_block`.
        block: of the rollouts; `None` is the model's own.
        spec: of the model.

    Raises:
        ValueError: naming the block; or if attention is full, where blocks are no part of a view.
    """
    if not objective.train_blocks:
        return
    rollout_block = spec.require_block(block)
    if rollout_block is None:
        raise ValueError(
            f"objective.train_block = {objective.train_blocks[0]} is for block-causal models: "
            f"{spec.family} attends to everything"
        )
    for found in objective.train_blocks:
        if found % rollout_block:
            raise ValueError(
                f"objective.train_block = {found} is no multiple of the rollouts' blocks of "
                f"{rollout_block} (sampling.block_size)"
            )


def step_advantages(groups: Sequence[Group], config: AdvantageConfig) -> list[list[float]]:
    """Return the advantage of every trajectory of a step, group by group."""
    rewards = [shaped_rewards(group, config) for group in groups]
    return advantages_of_rewards(rewards, config.baseline)


def shaped_rewards(group: Group, config: AdvantageConfig) -> list[float]:
    """Return the rewards of a group as advantages see them: one number each, less the over-length penalty."""
    return [
        total - _penalty(trajectory, config)
        for total, trajectory in zip(group_totals(group), group.trajectories, strict=True)
    ]


def forfeit_overlong(groups: Sequence[Group], config: AdvantageConfig) -> list[Group]:
    """Return groups in which responses that are all but cut off earn 0 (`advantage.forfeit_tokens`).

    A maths answer that long was cut off before its end, or stopped by chance on the way.
    """
    if config.forfeit_tokens is None:
        return list(groups)
    return [
        replace(
            group,
            rewards=tuple(
                _nothing(reward) if _is_forfeit(trajectory, config) else reward
                for reward, trajectory in zip(group.rewards, group.trajectories, strict=True)
            ),
        )
        for group in groups
    ]


def _nothing(reward: Reward) -> Reward:
    """Return no reward, of the shape of one."""
    return tuple(0.0 for _ in reward) if isinstance(reward, Sequence) else 0.0


def _is_forfeit(trajectory: Trajectory, config: AdvantageConfig) -> bool:
    within = config.forfeit_tokens
    return within is not None and trajectory.num_response >= trajectory.sampling.max_tokens - within


def penalty_numbers(groups: Sequence[Group], config: AdvantageConfig) -> dict[str, float]:
    """Return what length cost, as it stands in `metrics.jsonl`; nothing where it costs nothing."""
    trajectories = [t for group in groups for t in group.trajectories]
    numbers: dict[str, float] = {}
    if config.overlong_penalty:
        penalties = [_penalty(t, config) for t in trajectories]
        numbers["overlong_penalty"] = fmean(penalties)
        numbers["overlong"] = fmean(penalty > 0 for penalty in penalties)
    if config.forfeit_tokens is not None:
        numbers["forfeited"] = fmean(_is_forfeit(t, config) for t in trajectories)
    return numbers


def _penalty(trajectory: Trajectory, config: AdvantageConfig) -> float:
    return overlong_penalty(
        trajectory.num_response,
        trajectory.sampling.max_tokens,
        config.overlong_tokens,
        config.overlong_penalty,
    )
