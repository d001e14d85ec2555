"""How likely a diffusion model finds a response: a lower bound, for the likelihood has no closed form.

For the L slots of a block, given all that stands before it,

    log p(x) >= E[ L / l * sum over i in S of log p(x_i | x with S masked) ]

with l uniform on 1 .. L and S uniform on the subsets of l slots (arXiv 2502.09992, equation 6). A
block-causal model's bound is the sum over its blocks; under full attention the response is one block.
What stands right of the response in its last block is masked, as the sampler finds it.

A block with few subsets is not sampled: all of them are scored, and the bound is exact. Otherwise the
masked counts are stratified, and views n and N - 1 - n mask from opposite ends of one permutation. The
masks follow from the seed and the prompt, so that the choices of one question are compared under alike
masks. Numbers are bounds: they rank responses of one model, and are no perplexities.
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
        model: what judges.
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
    num_slots = len(response_ids)
    generator = torch.Generator().manual_seed(derive_seed(seed, *prompt_ids))
    offset = len(prompt_ids) % block if block else 0
    borders = [0, *range(block - offset, num_slots, block), num_slots] if block else [0, num_slots]
    masks = [
        masks_of_block(last - first, num_views, generator) for first, last in pairwise(borders)
    ]
    most = max(len(hidden) for hidden, _ in masks)
    hidden = torch.cat([F.pad(h, (0, 0, 0, most - len(h))) for h, _ in masks], 1)
    weight = torch.cat([F.pad(w, (0, 0, 0, most - len(w))) for _, w in masks], 1)
    size = num_slots + -(len(prompt_ids) + num_slots) % block if block else num_slots
    views = views_under_noise(prompt_ids, response_ids, size, block or size, hidden)
    return replace(views, weight=F.pad(weight, (0, size - weight.shape[1])))


def masks_of_block(
    num_slots: int, num_views: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return which slots of a block each view masks, and what a masked slot weighs.

    Returns:
        `hidden` bool and `weight`, both `(N, num_slots)`: all subsets where there are at most
        `num_views`, else so many drawn ones. The weighted sum of log-probabilities is the bound.
    """
    if 2**num_slots - 1 <= num_views:
        return _all_masks(num_slots)
    start = torch.rand((), generator=generator, dtype=torch.float64)
    strata = (torch.arange(num_views) + start) / num_views
    counts = 1 + (strata * num_slots).long().clamp(max=num_slots - 1)
    half = -(-num_views // 2)
    ranks = torch.rand(half, num_slots, generator=generator).argsort(-1)
    ranks = torch.cat((ranks, num_slots - 1 - ranks.flip(0)))[:num_views]
    hidden = ranks < counts[:, None]
    weight = (num_slots / (counts * num_views)).float()
    return hidden, weight[:, None].expand(-1, num_slots)


def _all_masks(num_slots: int) -> tuple[Tensor, Tensor]:
    subsets = [s for size in range(1, num_slots + 1) for s in combinations(range(num_slots), size)]
    hidden = torch.zeros(len(subsets), num_slots, dtype=torch.bool)
    for view, subset in enumerate(subsets):
        hidden[view, list(subset)] = True
    # The chance of a subset of l is 1 / (L C(L, l)), and each of its slots weighs L / l.
    weight = torch.tensor([1 / (len(s) * math.comb(num_slots, len(s))) for s in subsets])
    return hidden, weight[:, None].expand(-1, num_slots)
