"""The writes of every denoising step, for requests that stream their canvas or may revise it.

After each tick the tokens and steps of the last two blocks of those requests are copied to the host with
the counters (`host_state.py`): a step writes into one block, and may then open the next. On CUDA the copy
arrives one tick late, like the counters, so the host waits no more often than without it. The positions
whose denoising step differs from the last one sent are the writes of the tick. A preempted request continues
where it was, so no write is sent twice. The writes that a tick replaced are the revisions of a trajectory.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from unmask.diffusion.sampling_tensors import on_device
from unmask.engine.events import Written
from unmask.engine.scheduler import Running
from unmask.engine.sequence_state import SequenceState
from unmask.types import Revision, Trajectory

COLUMNS = ("tokens", "step_map", "logprobs", "raw_logprobs")


class Snapshot(NamedTuple):
    """The last two blocks of the sequences that stream their canvas or may revise it.

    Attributes:
        indices: their sequence indices.
        columns: `(4, w, 2 K)` fp64, `COLUMNS` of the positions from `start - block` on, where `K` is the
            widest block; meaningless outside the canvas and past `start + block`.
    """

    indices: tuple[int, ...]
    columns: Tensor


def take_snapshot(state: SequenceState, running: Mapping[int, Running]) -> Snapshot | None:
    """Return the last two blocks of the sequences that need them, on the device; `None` without any."""
    blocks = {i: run.request.block for i, run in running.items() if run.request.is_followed}
    if not blocks:
        return None
    index = on_device(list(blocks), state.start.device)
    first = state.start.index_select(0, index) - state.block.index_select(0, index)
    column = torch.arange(2 * max(blocks.values()), device=state.start.device)
    # (w, 2 K) absolute positions; those outside the state's columns are never read.
    positions = (first[:, None] + column).clamp(0, state.tokens.shape[1] - 1)
    rows = (getattr(state, name).index_select(0, index) for name in COLUMNS)
    # Token ids and steps are exact in fp64.
    return Snapshot(tuple(blocks), torch.stack([row.gather(1, positions).double() for row in rows]))


def new_writes(run: Running, first: int, columns: Sequence[Sequence[float]]) -> Written | None:
    """Return the writes of one tick, or `None` without any, and record them as sent.

    Args:
        run: the request; `sent` of it is extended.
        first: position of the columns' first entries, relative to the first response token.
        columns: `COLUMNS`, one entry per position.
    """
    pinned = dict(run.request.sampling.pinned)
    new = [
        (position, *values)
        for position, values in enumerate(zip(*columns, strict=True), first)
        if values[1] != run.sent.get(position, 0) and position not in pinned
    ]
    if not new:
        return None
    positions, token_ids, steps, logprobs, raw_logprobs = zip(*new, strict=True)
    run.sent.update(zip(positions, map(int, steps), strict=True))
    confidences = (math.exp(x) if s else 0.0 for x, s in zip(raw_logprobs, steps, strict=True))
    return Written(
        run.request.id,
        # A step that masks positions again also reveals at least one.
        step=int(max(steps)),
        positions=positions,
        token_ids=tuple(map(int, token_ids)),
        logprobs=logprobs,
        confidences=tuple(confidences),
    )


def record_revisions(run: Running, first: int, columns: Tensor) -> None:
    """Append the writes that one tick replaced, and the positions that it masked again, to a request's revisions.

    Args:
        run: the request; `held` of it becomes what the columns hold.
        first: position of the columns' first entries, relative to the first response token.
        columns: `(4, w)` fp64, `COLUMNS`.
    """
    if run.held is None:
        num_positions = run.request.max_length - len(run.request.prompt.token_ids)
        run.held = columns.new_zeros(3, num_positions)
    held = run.held[:, first : first + columns.shape[1]]  # (3, w)
    steps, (now, now_steps) = held[1], columns[:2]
    # A step that masks positions again also reveals at least one.
    taken = int(now_steps.max())
    for place in ((steps > 0) & (now_steps != steps)).nonzero()[:, 0].tolist():
        token, step, logprob = held[:, place].tolist()
        position = first + place
        run.revisions.append(Revision(int(step), position, int(token), logprob, "write"))
        if not now_steps[place]:
            run.revisions.append(Revision(taken, position, int(now[place]), 0.0, "remask"))
    held.copy_(columns[:3])


def last_writes(run: Running, result: Trajectory | ValueError) -> Written | None:
    """Return the writes of a finished response that no snapshot held, or `None` without any.

    On CUDA the host finds a stop text one tick late, when the next block has been denoised once.
    """
    if run.request.streams != "canvas" or isinstance(result, ValueError):
        return None
    measured = result.behavior_logprobs, result.raw_logprobs
    return new_writes(run, 0, (result.canvas_ids, result.step_map, *measured))
