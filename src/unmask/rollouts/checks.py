"""What a trajectory and its reward must be before anything is learnt from them.

A reward that is no number turns a gradient into NaN, one of the wrong length stands on the wrong
tokens, and a step map that disagrees with its response trains states the sampler was never in. Each
is an error that names the prompt, while the state of the last complete step is kept.
"""

import math
from collections.abc import Sequence

from unmask.types import Reward, Score, Trajectory


def check_trajectory(trajectory: Trajectory) -> None:
    """Refuse a trajectory whose parts do not belong together.

    Raises:
        ValueError: naming the prompt and what disagrees.
    """
    whose = f"the trajectory of prompt {trajectory.prompt.uid} of task {trajectory.prompt.task!r}"
    num_slots, num_response = len(trajectory.canvas_ids), trajectory.num_response
    for name in ("step_map", "behavior_logprobs"):
        found = len(getattr(trajectory, name))
        if found != num_slots:
            raise ValueError(f"{whose}: {name} has {found} entries for {num_slots} canvas slots")
    if not 1 <= num_response <= num_slots:
        raise ValueError(f"{whose}: a response of {num_response} tokens in {num_slots} slots")
    if min(trajectory.step_map) < 0:
        raise ValueError(f"{whose}: step_map has the negative step {min(trajectory.step_map)}")
    if 0 in trajectory.step_map[:num_response]:
        slot = trajectory.step_map.index(0)
        raise ValueError(
            f"{whose}: step_map disagrees with the response: no step revealed token {slot} of "
            f"{num_response}"
        )
    if not all(map(math.isfinite, trajectory.behavior_logprobs)):
        raise ValueError(f"{whose}: behavior_logprobs are not finite")


def check_scores(scores: Sequence[Score], trajectories: Sequence[Trajectory]) -> None:
    """Refuse rewards that cannot stand on their responses.

    Raises:
        ValueError: if there are not as many as trajectories; or naming the prompt of one that is not
            finite, or not one number per response token.
    """
    if len(scores) != len(trajectories):
        raise ValueError(
            f"task {trajectories[0].prompt.task!r} returned {len(scores)} rewards for "
            f"{len(trajectories)} responses"
        )
    for score, trajectory in zip(scores, trajectories, strict=True):
        _check_reward(score.reward, trajectory)


def _check_reward(reward: Reward, trajectory: Trajectory) -> None:
    prompt = trajectory.prompt
    whose = f"the reward of a response to prompt {prompt.uid} of task {prompt.task!r}"
    values = reward if isinstance(reward, Sequence) else (reward,)
    if isinstance(reward, Sequence) and len(reward) != trajectory.num_response:
        raise ValueError(
            f"{whose} has {len(reward)} numbers for {trajectory.num_response} response tokens: "
            "give one number, or one per token"
        )
    wrong = [value for value in values if not math.isfinite(value)]
    if wrong:
        raise ValueError(f"{whose} is {wrong[0]}: a reward must be finite")
