"""TraceRL's central idea: train on the states that the sampler was in.

A step map holds the denoising step at which each position was revealed. The noisy views follow from
it: for each step, the positions still hidden, and those revealed then. Optimising the policy on exactly those
conditionals is the whole of TraceRL (arXiv 2509.06949, section 4); `shrink` merges neighbouring
steps to save views.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def trace_views(
    step_map: Tensor, block: int, offset: int = 0, shrink: int = 1
) -> tuple[Tensor, Tensor]:
    """Return the hidden positions, and the revealed ones, of each denoising step of a trajectory.

    Under block-causal attention a block never reads the noisy part of another, so view `n` stands
    at the `n`-th reveal of every block at once; under full attention the canvas is one block.
    `shrink` merges that many neighbouring reveals into one view.

    Args:
        step_map: `(C,)`, the denoising step that revealed each position; 0 where none did.
        block: positions per block; `C` for full attention.
        offset: `P mod block`: position i belongs to block `(offset + i) // block`.
        shrink: neighbouring reveals of a block per view.

    Returns:
        `hidden` and `target`, both `(N, C)` bool, `target` a subset of `hidden`.
    """
    order = reveal_order(step_map, block, offset)
    view = order.div(shrink, rounding_mode="floor")  # (C,), the view each position is a target of
    number = torch.arange(int(view.max()) + 1, device=step_map.device)[:, None]
    return (view < 0) | (view >= number), view == number


def reveal_order(step_map: Tensor, block: int, offset: int) -> Tensor:
    """Number the reveals of each block from 0.

    Args:
        step_map: `(C,)`, 0 where a position was never revealed.
        block: positions per block.
        offset: positions of the first block that belong to the prompt.

    Returns:
        `(C,)`: how many distinct earlier steps revealed positions of the same block; -1 where no step
        ever did.
    """
    num_positions = step_map.shape[0]
    padding = (offset, -(offset + num_positions) % block)
    grid = F.pad(step_map, padding).view(-1, block)  # (blocks, K)
    steps, order = grid.sort(-1)
    is_first = F.pad(steps[:, 1:] != steps[:, :-1], (1, 0), value=True) & (steps > 0)
    numbers = is_first.long().cumsum(-1) - 1  # 0, 0, 1, ... along the sorted steps; -1 where step 0
    # From sorted order back to positions.
    unsorted = torch.empty_like(grid).scatter(1, order, numbers).flatten()
    return unsorted[offset : offset + num_positions]
