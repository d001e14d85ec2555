"""A lower bound of the log-likelihood of a response, which has no closed form in a diffusion model.

For the L positions of a block, given everything before it,

    log p(x) >= E[ L / l * sum over i in S of log p(x_i | x with S masked) ]

with l uniform on 1 .. L and S uniform on the subsets of l positions (arXiv 2502.09992, equation 6). A
block-causal model's bound is the sum over its blocks; under full attention the response is one block.
Positions after the response in its last block are masked, as the sampler finds them.

A block with few subsets is not sampled: all of them are scored, and the bound is exact. Otherwise the
masked counts are stratified, and views n and N - 1 - n mask from opposite ends of one permutation. The
masks follow from the seed and the prompt, so that the choices of one question are compared under the same
kind of masks. The results are bounds: they rank responses of one model, and are not perplexities.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.diffusion.layout import pack_views
from unmask.diffusion.views import Views, views_under_noise
from unmask.engine.scoring import score_pack
from unmask.models.conventions import conventions_of
from unmask.models.transformer import Model
from unmask.seeds import derive_seed

TOKEN_BUDGET = 16384

Pair = tuple[Sequence[int], Sequence[int]]


@torch.no_grad()
def bound_loglikelihoods(
    model: Model, pairs: Sequence[Pair], num_views: int = 128, seed: int = 0
) -> list[float]:
    """Return the lower bound, in nats, of the log-probability of each response given its prompt.

    Args:
        model: gives the probabilities.
        pairs: prompts of `P` and responses of `R >= 1` token ids.
        num_views: masks per block, where its subsets are more than that.
        seed: key of the draws.

    Raises:
        ValueError: if a pair is longer than the model, or the model's mask id is unknown.
    """
    for prompt_ids, response_ids in pairs:
        if len(prompt_ids) + len(response_ids) > model.spec.max_length:
            raise ValueError(
                f"a prompt of {len(prompt_ids)} and a response of {len(response_ids)} tokens are "
                f"longer than the model's {model.spec.max_length} positions"
            )
    block = None if model.spec.is_full else model.spec.block_size
    views = [_views(pair, block, num_views, seed) for pair in pairs]
    longest = max(len(v.prompt_ids) + len(v.canvas_ids) + v.block for v in views)
    bounds = torch.zeros(len(pairs), dtype=torch.float64)
    for pack in pack_views(views, conventions_of(model), max(TOKEN_BUDGET, longest)):
        pack = pack.to(model.device)
        scores = score_pack(model, pack)
        terms = (pack.weights * scores.logprobs).double().cpu()
        bounds.index_add_(0, pack.origin[0].cpu(), terms)
    return bounds.tolist()


def _views(pair: Pair, block: int | None, num_views: int, seed: int) -> Views:
    prompt_ids, response_ids = pair
    length = len(response_ids)
    generator = torch.Generator().manual_seed(derive_seed(seed, *prompt_ids))
    # The grid of blocks starts with the prompt, whose last `offset` tokens are in the response's first block.
    offset = len(prompt_ids) % block if block else 0
    borders = [0, *range(block - offset, length, block), length] if block else [0, length]
    masks = [
        masks_of_block(last - first, num_views, generator) for first, last in pairwise(borders)
    ]
    # Every block brings its own number of views; a block without a view in a row masks nothing there.
    most = max(len(hidden) for hidden, _ in masks)
    hidden = torch.cat([F.pad(h, (0, 0, 0, most - len(h))) for h, _ in masks], 1)
    weight = torch.cat([F.pad(w, (0, 0, 0, most - len(w))) for _, w in masks], 1)
    # The canvas ends with the last block: `R` rounded up on the grid.
    size = length + -(len(prompt_ids) + length) % block if block else length
    views = views_under_noise(prompt_ids, response_ids, size, block or size, hidden)
    return replace(views, weight=F.pad(weight, (0, size - weight.shape[1])))


def masks_of_block(
    length: int, num_views: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the masked positions of each view of a block, and the weight of a masked position.

    Returns:
        `hidden` bool and `weight`, both `(N, length)`: all subsets where there are at most
        `num_views`, else so many drawn ones. The weighted sum of log-probabilities is the bound.
    """
    if 2**length - 1 <= num_views:
        return _all_masks(length)
    # One shared offset in [0, 1) spreads the masked counts evenly over 1 .. L.
    start = torch.rand((), generator=generator, dtype=torch.float64)
    strata = (torch.arange(num_views) + start) / num_views
    counts = 1 + (strata * length).long().clamp(max=length - 1)
    half = -(-num_views // 2)
    # ranks (N, L): view n masks the positions of the lowest ranks; the flipped half ranks from the other end.
    ranks = torch.rand(half, length, generator=generator).argsort(-1)
    ranks = torch.cat((ranks, length - 1 - ranks.flip(0)))[:num_views]
    hidden = ranks < counts[:, None]
    weight = (length / (counts * num_views)).float()
    return hidden, weight[:, None].expand(-1, length)


def _all_masks(length: int) -> tuple[Tensor, Tensor]:
    subsets = [s for size in range(1, length + 1) for s in combinations(range(length), size)]
    hidden = torch.zeros(len(subsets), length, dtype=torch.bool)
    for view, subset in enumerate(subsets):
        hidden[view, list(subset)] = True
    # The chance of a subset of l is 1 / (L C(L, l)), and each of its positions weighs L / l.
    weight = torch.tensor([1 / (len(s) * math.comb(length, len(s))) for s in subsets])
    return hidden, weight[:, None].expand(-1, length)
