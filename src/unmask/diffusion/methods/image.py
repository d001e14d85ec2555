"""Views of images: MMaDA's training of text-to-image.

Of the N codes of an image, `round(N cos(pi/2 u))`, at least 1, are hidden, with u uniform in [0, 1): as many as a
uniform step of the cosine schedule leaves. The token of the image's end, the last of the response, is part of every
view. With probability `drop_text` the prompt is that of the empty text.

Chang et al., "MaskGIT" (2022); Yang et al., "MMaDA" (2025).
"""

from collections.abc import Sequence
from math import pi

import torch

from unmask.configs.methods.views.image import ImageViews
from unmask.diffusion.keyed_random import NOISE, NOISE_LEVEL, uniform
from unmask.diffusion.views import Canvas, Demonstrated, Views, views_under_noise


def of_demonstrations(
    demonstrations: Sequence[Demonstrated],
    config: ImageViews,
    canvas: Canvas,
    seeds: Sequence[int],
) -> list[Views]:
    """Return `config.count` noisy views of each image; a response is its codes and the token of its end."""
    return [
        _views_of_image(prompt_ids, response_ids, config, seed)
        for (prompt_ids, response_ids, _), seed in zip(demonstrations, seeds, strict=True)
    ]


def _views_of_image(
    prompt_ids: Sequence[int], response_ids: Sequence[int], config: ImageViews, seed: int
) -> Views:
    num_codes, key = len(response_ids) - 1, torch.tensor(seed)
    view = torch.arange(config.count)
    level = uniform(key, torch.tensor(0), view, NOISE_LEVEL)
    count = (num_codes * (pi / 2 * level).cos()).round().clamp(min=1)  # (N,)
    order = uniform(key, torch.arange(num_codes), view[:, None], NOISE).argsort(-1).argsort(-1)
    target = torch.zeros(config.count, num_codes + 1, dtype=torch.bool)
    target[:, :-1] = order < count[:, None]
    if uniform(key, torch.tensor(1), torch.tensor(0), NOISE_LEVEL) < config.drop_text:
        prompt_ids = (*prompt_ids[:2], *prompt_ids[-2:])  # the text stands between these
    size = len(response_ids)
    return views_under_noise(prompt_ids, response_ids, size, size, target)
