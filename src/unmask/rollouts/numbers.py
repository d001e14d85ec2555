"""Metrics of a step's rollouts, as written to `metrics.jsonl`."""

from collections.abc import Sequence
from statistics import fmean

from unmask.runs.trajectories import group_totals
from unmask.types import Group


def rollout_numbers(
    groups: Sequence[Group], kept: Sequence[Group], wall_s: float
) -> dict[str, float]:
    """Return reward, accuracy, lengths and parallelism of all groups, and the share that is trained on."""
    trajectories = [t for group in groups for t in group.trajectories]
    totals = [group_totals(group) for group in groups]
    rewards = [total for of_group in totals for total in of_group]
    verdicts = [group.parts.get("outcome", own) for group, own in zip(groups, totals, strict=True)]
    tokens = sum(t.num_response for t in trajectories)
    parts = {name for group in groups for name in group.parts}
    return {
        "reward": fmean(rewards),
        "accuracy": fmean(verdict == 1.0 for of_group in verdicts for verdict in of_group),
        "groups_kept": len(kept) / len(groups),
        "response_tokens": tokens / len(trajectories),
        "truncated": fmean(t.finish == "length" for t in trajectories),
        "tokens_per_denoising_step": tokens / sum(t.num_denoising_steps for t in trajectories),
        "tokens_per_forward": tokens / sum(t.num_forwards for t in trajectories),
        "tokens_per_s": tokens / wall_s,
    } | {
        f"reward_{name}": sum(sum(group.parts.get(name, ())) for group in groups) / len(rewards)
        for name in sorted(parts)
    }
