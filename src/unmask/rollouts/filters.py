"""Filters: the groups that are worth a training step."""

from statistics import fmean

from unmask.configs.objective import FilterConfig
from unmask.runs.trajectories import group_totals
from unmask.types import Group


def is_kept(group: Group, config: FilterConfig) -> bool:
    """Return whether a group is trained on; never one whose problem could not be graded."""
    if any(group.parts.get("unfit", ())):
        return False
    rewards = group_totals(group)
    mean = fmean(rewards)
    is_low = config.low is not None and mean < config.low
    is_high = config.high is not None and mean > config.high
    is_dropped = config.drop_uniform and len(set(rewards)) == 1
    num_tokens = fmean(trajectory.num_response for trajectory in group.trajectories)
    is_long = config.max_mean_tokens is not None and num_tokens > config.max_mean_tokens
    return not (is_low or is_high or is_dropped or is_long)
