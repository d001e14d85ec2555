"""Every token given the tokens before it: autoregressive SFT, in blocks of one token.

A model that predicts a token in the row before it has no masked input here: its loss is the next-token
loss, `P + R - 1` tokens in one pass. Other block-causal models read each token off a mask of its own.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from unmask.configs.methods.views.left_to_right import LeftToRightViews
from unmask.diffusion.views import Canvas, Demonstrated, Views, views_under_noise


def of_demonstrations(
    demonstrations: Sequence[Demonstrated],
    config: LeftToRightViews,
    canvas: Canvas,
    seeds: Sequence[int],
) -> list[Views]:
    """Return one view of each response, in which every token is a target; it has no noise."""
    return [
        replace(
            views_under_noise(prompt, ids, len(ids), 1, torch.ones(1, len(ids), dtype=torch.bool)),
            is_causal=True,
        )
        for prompt, ids, _ in demonstrations
    ]
