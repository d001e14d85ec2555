"""Metrics of a step's rollouts, as `metrics.jsonl` holds them."""

from collections.abc import Sequence
from statistics import fmean

from unmask.rollouts.filters import is_unfit
from unmask.runs.trajectories import group_totals
from unmask.types import Group


def rollout_metrics(
    groups: Sequence[Group], kept: Sequence[Group], wall_s: float
) -> dict[str, float]:
    """Return reward, accuracy, lengths and parallelism of all groups, and the share that is trained on.

    Rewards and accuracy leave out unfit problems, whose responses have no grade; they are absent
    where every problem is unfit.
    """
    trajectories = [t for group in groups for t in group.trajectories]
    tokens = sum(t.num_response for t in trajectories)
    fit = [group for group in groups if not is_unfit(group)]
    return (_reward_metrics(fit) if fit else {}) | {
        "unfit_problems": len(groups) - len(fit),
        "groups_kept": len(kept) / len(groups),
        "response_tokens": tokens / len(trajectories),
        "truncated": fmean(t.finish == "length" for t in trajectories),
        "tokens_per_denoising_step": tokens / sum(t.num_steps for t in trajectories),
        "tokens_per_forward": tokens / sum(t.num_forwards for t in trajectories),
        "tokens_per_s": tokens / wall_s,
    }


def _reward_metrics(groups: Sequence[Group]) -> dict[str, float]:
    totals = [group_totals(group) for group in groups]
    rewards = [total for of_group in totals for total in of_group]
    outcomes = [group.parts.get("outcome", own) for group, own in zip(groups, totals, strict=True)]
    parts = {name for group in groups for name in group.parts}
    return {
        "reward": fmean(rewards),
        "accuracy": fmean(outcome == 1.0 for of_group in outcomes for outcome in of_group),
    } | {
        f"reward_{name}": sum(sum(group.parts.get(name, ())) for group in groups) / len(rewards)
        for name in sorted(parts - {"unfit"})
    }
