"""Random masks of one block after the other: semi-autoregressive SFT.

Under full attention view g is

    [ prompt | blocks before g, clean | block g under noise | later blocks, hidden ]

and its targets are the hidden tokens of block g; blocks are counted from the response, as a sampler counts
them that writes block by block. Under block-causal attention no block reads a later one, so one view
holds every block.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F

from unmask.configs.methods.views.semi_ar import SemiARViews
from unmask.diffusion.methods import random
from unmask.diffusion.noise import draw_noise
from unmask.diffusion.views import Canvas, Demonstrated, Views, views_under_noise


def of_demonstrations(
    demonstrations: Sequence[Demonstrated],
    config: SemiARViews,
    canvas: Canvas,
    seeds: Sequence[int],
) -> list[Views]:
    """Return `config.count` views of each block of a response, or of all blocks if they are causal."""
    if not canvas.is_full:
        return random.of_demonstrations(demonstrations, config, canvas, seeds)
    return [
        _blocks_in_order(prompt_ids, response_ids, config, canvas, seed)
        for (prompt_ids, response_ids, _), seed in zip(demonstrations, seeds, strict=True)
    ]


def _blocks_in_order(
    prompt_ids: Sequence[int],
    response_ids: Sequence[int],
    config: SemiARViews,
    canvas: Canvas,
    seed: int,
) -> Views:
    assert canvas.block is not None, "SemiARViews refuses full attention without a block"
    size = canvas.size_of(len(prompt_ids), len(response_ids))
    blocks = torch.arange(len(response_ids)) // canvas.block  # (R,)
    drawn, level = draw_noise(seed, config.count, blocks, random.schedule_of(config))
    current = torch.arange(int(blocks[-1]) + 1)[:, None, None]  # (blocks, 1, 1), against (N, R)
    is_current = blocks == current
    target = ((drawn < level) & is_current).flatten(0, 1)  # (blocks * N, R)
    is_later = (blocks > current).expand(-1, config.count, -1).flatten(0, 1)
    views = views_under_noise(prompt_ids, response_ids, size, size, target, target | is_later)
    level = (level * is_current).flatten(0, 1)
    return replace(views, noise_level=F.pad(level, (0, size - len(response_ids))))
