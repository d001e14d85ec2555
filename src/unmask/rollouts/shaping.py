"""Reward shaping: what the length of a response costs, before its reward becomes an advantage."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from unmask.configs.rollout import ShapingConfig
from unmask.runs.trajectories import group_totals
from unmask.types import Group, Reward, Trajectory


def overlong_penalty(trajectory: Trajectory, config: ShapingConfig) -> float:
    """Return the penalty of a long response (DAPO, arXiv 2503.14476, equation 13).

    Nothing up to `max_tokens - overlong_tokens`, then linearly more, all of the penalty at
    `max_tokens`: `penalty * clip((R - (max_tokens - overlong_tokens)) / overlong_tokens, 0, 1)`.
    """
    start = trajectory.sampling.max_tokens - config.overlong_tokens
    excess = (trajectory.num_response - start) / config.overlong_tokens
    return config.overlong_penalty * min(max(excess, 0.0), 1.0)


def shaped_rewards(group: Group, config: ShapingConfig) -> list[float]:
    """Return the rewards of a group, one number each, less the over-length penalty."""
    return [
        total - overlong_penalty(trajectory, config)
        for total, trajectory in zip(group_totals(group), group.trajectories, strict=True)
    ]


def forfeit_overlong(groups: Sequence[Group], config: ShapingConfig) -> list[Group]:
    """Return groups in which responses close to `max_tokens` earn 0 (`shaping.forfeit_tokens`).

    A response to a maths problem that long was cut off before its end, or stopped by chance on the way.
    """
    if config.forfeit_tokens is None:
        return list(groups)
    return [
        replace(
            group,
            rewards=tuple(
                _zeros_like(reward) if _is_forfeit(trajectory, config) else reward
                for reward, trajectory in zip(group.rewards, group.trajectories, strict=True)
            ),
        )
        for group in groups
    ]


def shaping_metrics(groups: Sequence[Group], config: ShapingConfig) -> dict[str, float]:
    """Return the cost of length as metrics; none where length costs nothing."""
    trajectories = [t for group in groups for t in group.trajectories]
    metrics: dict[str, float] = {}
    if config.overlong_penalty:
        penalties = [overlong_penalty(t, config) for t in trajectories]
        metrics["overlong_penalty"] = fmean(penalties)
        metrics["overlong"] = fmean(penalty > 0 for penalty in penalties)
    if config.forfeit_tokens is not None:
        metrics["forfeited"] = fmean(_is_forfeit(t, config) for t in trajectories)
    return metrics


def _zeros_like(reward: Reward) -> Reward:
    return tuple(0.0 for _ in reward) if isinstance(reward, Sequence) else 0.0


def _is_forfeit(trajectory: Trajectory, config: ShapingConfig) -> bool:
    within = config.forfeit_tokens
    return within is not None and trajectory.num_response >= trajectory.sampling.max_tokens - within
