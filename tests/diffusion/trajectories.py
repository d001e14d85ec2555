"""Trajectories such as an engine makes: block after block, cut anywhere in the last."""

import random

from tests.toy import SPEC
from unmask.types import Prompt, SamplingParams, Trajectory

MASK = SPEC.mask_id
assert MASK is not None


def random_trajectory(
    rng: random.Random,
    block: int = 4,
    num_prompt: int | None = None,
    prompt_ids: tuple[int, ...] | None = None,
) -> Trajectory:
    """Draw a trajectory of one to four blocks whose response ends inside the last one."""
    if prompt_ids is None:
        count = rng.randrange(3 * block) if num_prompt is None else num_prompt
        prompt_ids = tuple(rng.randrange(2, 20) for _ in range(count))
    offset = len(prompt_ids) % block
    num_blocks = rng.randrange(1, 5)
    step_map: list[int] = []
    for index in range(num_blocks):
        size = block - (offset if index == 0 else 0)
        first = max(step_map, default=0)
        steps = [first + 1 + rng.randrange(size) for _ in range(size)]
        ranks = {step: first + 1 + rank for rank, step in enumerate(sorted(set(steps)))}
        step_map += [ranks[step] for step in steps]
    # The response ends in the last block; some slots right of it were never revealed.
    last = block if num_blocks > 1 else block - offset
    num_response = len(step_map) - rng.randrange(last)
    for slot in range(num_response, len(step_map)):
        step_map[slot] *= rng.randrange(2)
    ids = [rng.randrange(2, 20) if step else MASK for step in step_map]
    return Trajectory(
        prompt=Prompt("toy", 0, (), prompt_ids),
        canvas_ids=tuple(ids),
        step_map=tuple(step_map),
        behavior_logprobs=tuple(-rng.random() if step else 0.0 for step in step_map),
        num_response=num_response,
        finish="length",
        policy_version=0,
        sampling=SamplingParams(
            block_size=block, stop_token_ids=(0,), temperature=rng.choice([0.5, 1.0])
        ),
        num_forwards=max(step_map),
    )
