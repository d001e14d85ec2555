"""Trajectories such as an engine makes: block after block, cut anywhere in the last; or a whole canvas."""

import random
from dataclasses import replace
from typing import NamedTuple

import torch
from hypothesis import strategies as st

from tests.toy import SPEC
from unmask.diffusion.conventions import Conventions
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt, Revision, Trajectory

MASK = SPEC.require_mask_id()
CONVENTIONS = Conventions(MASK, drawable=torch.arange(SPEC.vocab_size) != MASK)


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
    # The response ends in the last block; some positions right of it were never revealed.
    last = block if num_blocks > 1 else block - offset
    num_response = len(step_map) - rng.randrange(last)
    for position in range(num_response, len(step_map)):
        step_map[position] *= rng.randrange(2)
    return _trajectory(rng, prompt_ids, step_map, num_response, block)


def random_canvas(rng: random.Random, num_prompt: int) -> Trajectory:
    """Draw a trajectory of full attention: a canvas of any size, written in blocks of four, cut anywhere."""
    num_positions = rng.randrange(1, 15)
    num_response = rng.randrange(1, num_positions + 1)
    end = -(-num_response // 4) * 4  # where the last block that was opened ends
    step_map = [1 + 4 * (position // 4) + rng.randrange(4) for position in range(num_positions)]
    for position in range(num_response, num_positions):
        step_map[position] *= rng.randrange(2) * (position < end)
    prompt_ids = tuple(rng.randrange(2, 20) for _ in range(num_prompt))
    return _trajectory(rng, prompt_ids, step_map, num_response, 4)


class Pass(NamedTuple):
    """One denoising pass as it happened: its block, what stood before it (`None`: the mask), what it wrote."""

    block: int
    before: list[int | None]
    writes: dict[int, tuple[int, float]]  # position to token and log-probability


def random_revising(
    rng: random.Random, block: int = 4, is_full: bool = False, num_prompt: int | None = None
) -> tuple[Trajectory, list[Pass]]:
    """Draw a trajectory that overwrites tokens and masks them again, and its passes as they happened."""
    count = rng.randrange(3 * block) if num_prompt is None else num_prompt
    prompt_ids = tuple(rng.randrange(2, 20) for _ in range(count))
    offset = 0 if is_full else count % block
    num_positions = rng.randrange(1, 14) if is_full else rng.randrange(1, 5) * block - offset
    events: list[
        tuple[int, int, int | None, float]
    ] = []  # step, position, token or None, log-probability
    canvas: list[int | None] = [None] * num_positions
    passes: list[Pass] = []
    for number in range((offset + num_positions - 1) // block + 1):
        places = [i for i in range(num_positions) if (offset + i) // block == number]
        edits_left = 3
        while edits_left:
            hidden = [i for i in places if canvas[i] is None]
            written = [i for i in places if canvas[i] is not None]
            masked = [i for i in written if rng.random() < 0.2][: max(len(hidden) - 1, 0)]
            least = min(len(masked) + 1, len(hidden))
            chosen = rng.sample(hidden, rng.randrange(least, len(hidden) + 1)) if hidden else []
            chosen += [i for i in written if i not in masked and rng.random() < 0.3]
            writes = {i: (rng.randrange(2, 20), -rng.random()) for i in chosen}
            passes.append(Pass(number, list(canvas), writes))
            events += [(len(passes), i, *write) for i, write in writes.items()]
            events += [(len(passes), i, None, 0.0) for i in masked]
            for i in (*chosen, *masked):
                canvas[i] = writes[i][0] if i in writes else None
            edits_left = edits_left - bool(chosen) if hidden or chosen else 0
            edits_left = 3 if hidden else edits_left
    last = {position: event for event in events for position in (event[1],)}
    steps = [last[i][0] for i in range(num_positions)]
    trajectory = _trajectory(rng, prompt_ids, steps, rng.randrange(1, num_positions + 1), block)
    revisions = [
        Revision(step, i, MASK if token is None else token, logprob, "write" if token else "remask")
        for step, i, token, logprob in events
        if (step, i) != last[i][:2]
    ]
    return replace(
        trajectory,
        canvas_ids=tuple(token or MASK for token in canvas),
        behavior_logprobs=tuple(last[i][3] for i in range(num_positions)),
        revisions=tuple(sorted(revisions, key=lambda r: (r.step, r.position))),
        num_steps=len(passes),
        sampling=replace(trajectory.sampling, edit_threshold=0.9),
    ), passes


@st.composite
def trajectories(draw: st.DrawFn, conventions: Conventions) -> Trajectory:
    """Draw any step map on any grid: one token, all in one step, a stop first, positions never revealed."""
    block = draw(st.integers(1, 5))
    num_prompt = draw(st.integers(int(conventions.is_shifted), 2 * block + 1))
    offset = num_prompt % block
    num_positions = draw(st.integers(1, 3)) * block - offset
    least = max(1, num_positions - block + 1)
    if conventions.is_full:
        num_positions, least = draw(st.integers(1, 10)), 1
    num_response = draw(st.integers(least, num_positions))
    num_steps = draw(st.integers(1, 5))
    step_map = draw(
        st.lists(st.integers(1, num_steps), min_size=num_positions, max_size=num_positions)
    )
    for position in range(num_response, num_positions):
        step_map[position] *= draw(st.integers(0, 1))
    if not conventions.is_full:  # later blocks are written later
        step_map = [s and s + (offset + i) // block * num_steps for i, s in enumerate(step_map)]
    rng = random.Random(draw(st.integers(0, 99)))
    prompt_ids = tuple(rng.randrange(2, 20) for _ in range(num_prompt))
    return _trajectory(rng, prompt_ids, step_map, num_response, block)


def _trajectory(
    rng: random.Random,
    prompt_ids: tuple[int, ...],
    step_map: list[int],
    num_response: int,
    block: int,
) -> Trajectory:
    ids = [rng.randrange(2, 20) if step else MASK for step in step_map]
    return Trajectory(
        prompt=Prompt("toy", 0, (), prompt_ids),
        canvas_ids=tuple(ids),
        step_map=tuple(step_map),
        behavior_logprobs=tuple(-rng.random() if step else 0.0 for step in step_map),
        num_response=num_response,
        finish=rng.choice(["stop", "length"]),
        policy_version=0,
        sampling=SamplingParams(
            block_size=block, stop_token_ids=(0,), temperature=rng.choice([0.5, 1.0])
        ),
        num_forwards=max(step_map),
    )
