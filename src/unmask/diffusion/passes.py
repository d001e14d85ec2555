"""The denoising passes of any trajectory: the state before each, and what it wrote.

The state of a position before pass s is decided by the last event at it before s: a write, after which its
token stands there, or a re-masking. So the passes of a sampler that overwrites tokens, or masks them again,
follow from `Trajectory.revisions` as those of a write-once sampler follow from the step map alone
(`diffusion/trace.py`).

Passes are numbered by denoising step, and a block is denoised from its first write to the step before the
first write of the next block. Under block-causal attention a block never reads the noisy part of another,
so the n-th passes of all blocks are one view; under full attention the canvas is one block.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.types import Trajectory


class Passes(NamedTuple):
    """The n-th denoising pass of every block, for each n; `(N, C)` each unless stated.

    Attributes:
        hidden: bool, positions that held the mask token before the pass.
        inputs: token ids that stood there before it; meaningful where not hidden.
        target: bool, positions that it wrote.
        target_ids: the ids written; meaningful at targets.
        logprobs: fp64, their behaviour log-probabilities; 0 elsewhere.
        num_passes: `(C,)` how many passes the block of each position took; 0 where it took none.
    """

    hidden: Tensor
    inputs: Tensor
    target: Tensor
    target_ids: Tensor
    logprobs: Tensor
    num_passes: Tensor


def trajectory_passes(trajectory: Trajectory, block: int, offset: int = 0) -> Passes:
    """Return the passes that a trajectory took.

    Args:
        trajectory: from a sampler.
        block: positions per block; `C` for full attention.
        offset: `P mod block`: position i belongs to block `(offset + i) // block`.
    """
    canvas_ids, step_map = torch.tensor(trajectory.canvas_ids), torch.tensor(trajectory.step_map)
    earlier = [r for r in trajectory.revisions if r.kind == "write"]
    masked = [r for r in trajectory.revisions if r.kind == "remask"]
    standing = step_map.nonzero()[:, 0]
    # (E,) each, of every write: step, position, token id, log-probability.
    step = torch.cat((_column([r.step for r in earlier]), step_map[standing]))
    place = torch.cat((_column([r.position for r in earlier]), standing))
    token = torch.cat((_column([r.token for r in earlier]), canvas_ids[standing]))
    logprob = torch.tensor(
        [
            *(r.logprob for r in earlier),
            *(trajectory.behavior_logprobs[i] for i in standing.tolist()),
        ],
        dtype=torch.float64,
    )
    blocks = (offset + torch.arange(len(step_map))) // block  # (C,)
    first, counts = _passes_of_blocks(blocks[place], step, int(blocks[-1]) + 1, trajectory)
    shape = int(counts.max()), len(step_map)

    def number(steps: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return the index into the table `(N, C)` of events: pass of its block, and position."""
        return steps - first[blocks[places]], places

    written = number(step, place)
    remasked = number(
        *(_column([getattr(r, name) for r in masked]) for name in ("step", "position"))
    )
    target, is_masked = torch.zeros(2, *shape, dtype=torch.bool)
    target[written], is_masked[remasked] = True, True
    target_ids = canvas_ids.repeat(shape[0], 1).index_put(written, token)
    logprobs = torch.zeros(shape, dtype=torch.float64).index_put(written, logprob)
    # The last event at each position before each pass, -1 before the first.
    passes = torch.arange(shape[0])[:, None]
    last = torch.where(target | is_masked, passes, -1).cummax(0).values
    last = F.pad(last[:-1], (0, 0, 1, 0), value=-1)
    at = last.clamp(min=0)
    stands = (last >= 0) & ~is_masked.gather(0, at)
    hidden = ~stands
    hidden[:, [position for position, _ in trajectory.sampling.pinned]] = False
    inputs = torch.where(stands, target_ids.gather(0, at), canvas_ids)
    return Passes(hidden, inputs, target, target_ids, logprobs, counts[blocks])


def _column(values: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def _passes_of_blocks(
    blocks: Tensor, steps: Tensor, num_blocks: int, trajectory: Trajectory
) -> tuple[Tensor, Tensor]:
    """Return the first denoising step of each block and the number of its passes.

    Args:
        blocks: `(E,)` the block of each write.
        steps: `(E,)` its denoising step.
        num_blocks: `B`.
        trajectory: whose last step ends the last block.

    Returns:
        `(B,)` each; 0 passes for a block that none wrote.
    """
    end = trajectory.num_steps + 1
    first = torch.full((num_blocks,), end).scatter_reduce(0, blocks, steps, "amin")
    # A block ends before the first step of any later block: the running minimum from the right.
    ends = F.pad(first[1:], (0, 1), value=end).flip(0).cummin(0).values.flip(0)
    return first, (ends - first).clamp(min=0)
