"""The bound against its definition, forward by forward; sampled masks against all of them."""

import itertools
import math
from typing import Any

import pytest
import torch

from tests.models.toy import family_model, toy_model
from unmask.evaluation.likelihood import bound_loglikelihoods, masks_of_block
from unmask.models.conventions import conventions_of
from unmask.models.transformer import Model

PROMPT, RESPONSE = (4, 9, 5), (7, 2, 11, 6, 3)


@torch.no_grad()
def by_definition(model: Model, prompt: tuple[int, ...], response: tuple[int, ...]) -> float:
    """Sum over blocks and subsets, one dense forward pass each."""
    conventions = conventions_of(model)
    block = len(response) if model.spec.is_full else model.spec.block_size
    assert block is not None
    offset = 0 if model.spec.is_full else len(prompt) % block
    slots = range(len(response))
    blocks = [list(g) for _, g in itertools.groupby(slots, lambda i: (offset + i) // block)]
    total = 0.0
    for members in blocks:
        for size in range(1, len(members) + 1):
            for subset in itertools.combinations(members, size):
                ids = torch.tensor([*prompt, *response])
                ids[[len(prompt) + slot for slot in subset]] = conventions.mask_id
                if (
                    not model.spec.is_full
                ):  # what is right of the block is not seen; its own rest is masked
                    ids = ids[: len(prompt) + members[-1] + 1]
                    missing = -len(ids) % block
                    ids = torch.cat((ids, torch.full((missing,), conventions.mask_id)))
                logits = model.logits(ids[None])[0]
                logits[:, ~conventions.drawable] = -torch.inf
                rows = [len(prompt) + slot - model.spec.is_shifted for slot in subset]
                found = logits.log_softmax(-1)[rows, [response[slot] for slot in subset]]
                total += float(found.sum()) / (size * math.comb(len(members), size))
    return total


@pytest.mark.parametrize(
    "changes", [{}, {"attention": "full", "block_size": 32}], ids=["block-causal", "full"]
)
def test_it_is_the_definition_where_all_masks_are_scored(changes: dict[str, Any]) -> None:
    model = toy_model(dtype=torch.float64, **changes)
    pairs = [(PROMPT, RESPONSE), (PROMPT[:2], RESPONSE[:1]), ((), RESPONSE[:3])]
    found = bound_loglikelihoods(model, pairs)
    assert found == pytest.approx([by_definition(model, *pair) for pair in pairs], rel=1e-6)


@pytest.mark.parametrize("family", ["dream", "sdar_moe"])
def test_it_is_the_definition_for_other_conventions(family: str) -> None:
    model = family_model(family).double()
    assert bound_loglikelihoods(model, [(PROMPT, RESPONSE)]) == pytest.approx(
        [by_definition(model, PROMPT, RESPONSE)], rel=1e-5
    )


@pytest.mark.parametrize(("length", "num_views"), [(6, 9), (6, 62), (40, 7), (9, 1)])
def test_drawn_masks_hide_as_many_as_they_weigh(length: int, num_views: int) -> None:
    hidden, weight = masks_of_block(length, num_views, torch.Generator().manual_seed(0))
    assert hidden.shape == weight.shape == (num_views, length)
    counts = hidden.sum(-1)
    assert counts.min() >= 1 and counts.max() <= length
    # l slots of weight L / (l N) each: every view weighs L / N.
    assert (hidden * weight).sum(-1).tolist() == pytest.approx([length / num_views] * num_views)
    if num_views >= length:
        assert counts.unique().numel() == length  # no count is left to chance


def test_drawn_masks_estimate_the_bound_without_bias() -> None:
    model = toy_model(attention="full", block_size=32)
    (exact,) = bound_loglikelihoods(model, [(PROMPT, RESPONSE)])
    drawn = [
        bound_loglikelihoods(model, [(PROMPT, RESPONSE)], num_views=16, seed=seed)[0]
        for seed in range(40)
    ]
    mean, spread = sum(drawn) / 40, float(torch.tensor(drawn).std())
    assert spread > 0
    assert abs(mean - exact) < 4 * spread / 40**0.5
    assert drawn[3] == bound_loglikelihoods(model, [(PROMPT, RESPONSE)], num_views=16, seed=3)[0]


def test_a_pair_does_not_depend_on_the_others() -> None:
    model = toy_model(dtype=torch.float64)
    pairs = [(PROMPT, RESPONSE), ((5, 6, 7, 8), (3, 4)), (PROMPT, (2,) * 11)]
    alone = [bound_loglikelihoods(model, [pair], 8)[0] for pair in pairs]
    assert bound_loglikelihoods(model, pairs, 8) == pytest.approx(alone, rel=1e-9)


def test_what_is_longer_than_the_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"120 and a response of 9 tokens are longer than .* 128"):
        bound_loglikelihoods(toy_model(), [((5,) * 120, (6,) * 9)])
