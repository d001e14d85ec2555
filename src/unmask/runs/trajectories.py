"""A trajectory as a line of JSON: what was asked, what was written in which order, what it earned.

Token ids and step map are kept beside the text, because the text does not give them back. The
reference answer is left out: graders keep arbitrary objects in it, and the task and uid name it.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from unmask.types import Reward, Trajectory


def trajectory_record(
    trajectory: Trajectory,
    text: str,
    reward: Reward,
    parts: Mapping[str, float] | None = None,
    step: int | None = None,
) -> dict[str, Any]:
    """Return everything about one response as plain JSON values.

    Args:
        trajectory: the response and the order in which it was revealed.
        text: the response as text, as the grader read it.
        reward: what it earned: a number, or one number per response token.
        parts: named parts of the reward.
        step: the optimizer step it was written for.
    """
    fields = asdict(trajectory)
    del fields["prompt"]["reference"]
    return {
        "step": step,
        "text": text,
        "reward": reward,
        "parts": dict(parts or {}),
        "num_denoising_steps": trajectory.num_denoising_steps,
        **fields,
    }
