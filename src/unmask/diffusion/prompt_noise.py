"""Prompts under noise: tokens of the prompt that a view hides too, as d1's policy gradient does (arXiv 2504.12216)."""

from dataclasses import replace

import torch

from unmask.diffusion.keyed_random import PROMPT_NOISE, uniform
from unmask.diffusion.views import Views


def hide_prompt(views: Views, seed: int, probability: float) -> Views:
    """Return views each of which hides tokens of the prompt at random; vectors of pictures stay.

    Args:
        views: of one trajectory.
        seed: key of the draws.
        probability: with which each token is hidden, in each view on its own.
    """
    if not probability:
        return views
    num_views, num_prompt = len(views.target), len(views.prompt_ids)
    view, position = torch.arange(num_views)[:, None], torch.arange(num_prompt)
    drawn = uniform(torch.tensor(seed), position, view, PROMPT_NOISE)  # (N, P)
    return replace(views, prompt_hidden=(drawn < probability) & (views.prompt_ids >= 0))
