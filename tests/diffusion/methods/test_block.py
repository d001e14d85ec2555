"""Block SFT: `random` under the name of the published method, against the published loss."""

import pytest

from tests.diffusion.methods.published import (
    assert_same_loss,
    block_rows_loss,
    demonstrations,
    golden,
    our_loss,
    rows_of,
)
from unmask.configs.methods.views.block import BlockViews


def test_the_loss_is_that_of_the_published_script() -> None:
    """`sft_sdar`, `semi-ar`: one noise level per token, summed and divided by the longest response."""
    model = golden("sdar")
    batch = demonstrations(model)
    table = {"kind": "block", "level": "token"}
    views, ours = our_loss(model, batch, table, "constant")
    published = block_rows_loss(model, list(rows_of(batch, views)), 4)
    assert_same_loss(model, ours, published)


def test_it_is_random_in_block_causal_models() -> None:
    model = golden("sdar")
    batch = demonstrations(model)
    losses = [our_loss(model, batch, {"kind": kind}, "tokens")[1] for kind in ("block", "random")]
    assert losses[0] == losses[1]


def test_full_attention_is_refused() -> None:
    assert 'use "random"' in (BlockViews().refusal(is_full=True, is_shifted=False) or "")
    assert BlockViews().refusal(is_full=False, is_shifted=True) is None


@pytest.mark.parametrize("kind", ["block", "semi_ar"])
def test_shifted_models_are_trained_too(kind: str) -> None:
    model = golden("fast_dllm_v2")
    loss = our_loss(model, demonstrations(model), {"kind": kind}, "tokens")[1]
    assert loss.isfinite() and loss > 0
