"""Groups made by hand, without a model."""

from collections.abc import Mapping, Sequence

from unmask.sampling_params import SamplingParams
from unmask.types import Finish, Group, Prompt, Reward, Trajectory


def trajectory(
    prompt: Prompt, length: int, steps: int, finish: Finish = "stop", forwards: int = 9
) -> Trajectory:
    """Return a response of `length` tokens 5 that took `steps` denoising steps, one slot unrevealed."""
    step_map = tuple(min(slot + 1, steps) for slot in range(length))
    return Trajectory(
        prompt=prompt,
        canvas_ids=(5,) * length + (1,),
        step_map=(*step_map, 0),
        behavior_logprobs=(-0.5,) * length + (0.0,),
        num_response=length,
        finish=finish,
        policy_version=0,
        sampling=SamplingParams(block_size=4, stop_token_ids=(0,)),
        num_forwards=forwards,
    )


def group(
    rewards: Sequence[Reward],
    shapes: Sequence[tuple[int, int]] | None = None,
    uid: int = 1,
    parts: Mapping[str, Sequence[float]] | None = None,
) -> Group:
    """Return a group with these rewards, and answers of these (length, denoising steps)."""
    prompt = Prompt("toy", uid, (), (2, 3))
    answers = [trajectory(prompt, *shape) for shape in shapes or [(4, 2)] * len(rewards)]
    return Group(prompt, answers, rewards, parts or {})
