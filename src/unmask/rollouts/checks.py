"""Checks of trajectories and rewards before they are trained on.

A reward that is not finite turns the gradient into NaN, one of the wrong length is assigned to the wrong
tokens, and a step map that disagrees with its response trains states that the sampler was never in. Each is
an error that names the prompt; the state of the last complete step is kept.
"""

import math
from collections.abc import Sequence

from unmask.rewards.weighted import check_reward
from unmask.types import Score, Trajectory


def check_trajectory(trajectory: Trajectory) -> None:
    """Refuse a trajectory whose fields disagree.

    Raises:
        ValueError: naming the prompt and the fields.
    """
    subject = f"the trajectory of prompt {trajectory.prompt.uid} of task {trajectory.prompt.task!r}"
    num_positions, num_response = len(trajectory.canvas_ids), trajectory.num_response
    for name in ("step_map", "behavior_logprobs"):
        found = len(getattr(trajectory, name))
        if found != num_positions:
            raise ValueError(
                f"{subject}: {name} has {found} entries for {num_positions} canvas positions"
            )
    if len(trajectory.policy_versions) not in (0, num_positions):
        raise ValueError(
            f"{subject}: policy_versions has {len(trajectory.policy_versions)} entries for {num_positions} "
            "canvas positions"
        )
    if not 1 <= num_response <= num_positions:
        raise ValueError(
            f"{subject}: a response of {num_response} tokens in {num_positions} positions"
        )
    if min(trajectory.step_map) < 0:
        raise ValueError(f"{subject}: step_map has the negative step {min(trajectory.step_map)}")
    pinned = {position for position, _ in trajectory.sampling.pinned}
    steps = enumerate(trajectory.step_map[:num_response])
    missing = [position for position, step in steps if step == 0 and position not in pinned]
    if missing:
        position = missing[0]
        raise ValueError(
            f"{subject}: step_map disagrees with the response: no step revealed token {position} of "
            f"{num_response}"
        )
    if any(not 0 <= r.position < num_positions for r in trajectory.revisions):
        raise ValueError(f"{subject}: revisions hold a position outside the canvas")
    last = max((*trajectory.step_map, *(r.step for r in trajectory.revisions)))
    if last > trajectory.num_steps:
        raise ValueError(
            f"{subject}: num_steps = {trajectory.num_steps}, and step {last} wrote a token"
        )
    logprobs = *trajectory.behavior_logprobs, *(r.logprob for r in trajectory.revisions)
    if not all(map(math.isfinite, logprobs)):
        raise ValueError(f"{subject}: behavior_logprobs are not finite")


def check_scores(scores: Sequence[Score], trajectories: Sequence[Trajectory]) -> None:
    """Refuse rewards that do not fit their responses.

    Raises:
        ValueError: if their number is not that of the trajectories; or naming the prompt of a reward that
            is not finite, or not one number per response token.
    """
    if len(scores) != len(trajectories):
        raise ValueError(
            f"task {trajectories[0].prompt.task!r} returned {len(scores)} rewards for "
            f"{len(trajectories)} responses"
        )
    for score, trajectory in zip(scores, trajectories, strict=True):
        check_reward(score.reward, trajectory)
