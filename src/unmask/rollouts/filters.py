"""Filters: the groups that are worth a training step."""

from collections.abc import Sequence
from statistics import fmean

from unmask.configs.rollout import FilterConfig
from unmask.rewards.question import is_caption
from unmask.rewards.weighted import OUTCOME
from unmask.runs.trajectories import group_totals
from unmask.types import Group


def is_unfit(group: Group) -> bool:
    """Return whether the group's problem turned out ungradable while a response was graded."""
    return any(group.parts.get("unfit", ()))


def is_kept(group: Group, config: FilterConfig) -> bool:
    """Return whether a group is trained on; a group of an unfit problem never is."""
    if is_unfit(group):
        return False
    num_tokens = fmean(trajectory.num_response for trajectory in group.trajectories)
    if config.max_mean_tokens is not None and num_tokens > config.max_mean_tokens:
        return False
    if config.number == "reward":
        numbers: Sequence[float] = group_totals(group)
    elif is_caption(group.prompt):
        return True
    else:
        numbers = group.parts[OUTCOME]
    mean = fmean(numbers)
    is_low = config.low is not None and mean < config.low
    is_high = config.high is not None and mean > config.high
    is_dropped = config.drop_uniform and len(set(numbers)) == 1
    return not (is_low or is_high or is_dropped)
