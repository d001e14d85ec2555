"""Autoregressive SFT: the next-token loss of shifted models, blocks of one token of the others."""

import pytest
import torch

from tests.diffusion.methods.published import (
    P,
    R,
    assert_same_loss,
    block_rows_loss,
    demonstrations,
    golden,
    log_probs,
    our_loss,
)
from unmask.configs.methods.views.left_to_right import LeftToRightViews
from unmask.diffusion.layout import pack_views
from unmask.models.conventions import conventions_of


@pytest.mark.parametrize("family", ["dream", "fast_dllm_v2"])
def test_of_shifted_models_it_is_the_published_next_token_loss(family: str) -> None:
    """`sft_dream`, `ar`: the shifted likelihood under a causal mask, a mean over each response."""
    model = golden(family)
    batch = demonstrations(model)
    _, ours = our_loss(model, batch, {"kind": "left_to_right"}, "view")
    causal = torch.ones(P + R, P + R, dtype=torch.bool).tril()[None]
    losses: list[torch.Tensor] = []
    for demonstration in batch:
        ids = torch.tensor(demonstration.prompt_ids + demonstration.response_ids)
        logits = model.logits(ids[None], torch.arange(P + R), causal)[0]
        losses.append(-log_probs(model, logits[P - 1 : -1], ids[P:]).mean())
    assert_same_loss(model, ours, torch.stack(losses).mean())


def test_of_other_block_causal_models_it_is_block_diffusion_in_blocks_of_one() -> None:
    model = golden("sdar")
    batch = demonstrations(model)
    _, ours = our_loss(model, batch, {"kind": "left_to_right"}, "constant")
    everything = torch.ones(R, dtype=torch.bool)
    rows = [(demonstration, everything, everything) for demonstration in batch]
    assert_same_loss(model, ours, block_rows_loss(model, rows, 1))


@pytest.mark.parametrize("family", ["dream", "fast_dllm_v2"])
def test_no_token_of_a_shifted_model_is_laid_out_twice(family: str) -> None:
    model = golden(family)
    views, _ = our_loss(model, demonstrations(model)[:1], {"kind": "left_to_right"}, "tokens")
    (pack,) = pack_views(views, conventions_of(model), 64)
    assert len(pack.tokens) == P + R - 1  # the last token predicts nothing


def test_full_attention_needs_a_shifted_model() -> None:
    refused = LeftToRightViews().refusal(is_full=True, is_shifted=False)
    assert refused and "next-token loss" in refused
    assert LeftToRightViews().refusal(is_full=True, is_shifted=True) is None
    assert LeftToRightViews().refusal(is_full=False, is_shifted=False) is None
