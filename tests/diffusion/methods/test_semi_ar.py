"""Semi-autoregressive SFT: its views position by position, and the published loss."""

import pytest
import torch

from tests.diffusion.methods.published import (
    R,
    assert_same_loss,
    demonstrations,
    full_rows_loss,
    golden,
    our_loss,
    rows_of,
)
from unmask.configs.methods.views.semi_ar import SemiARViews
from unmask.diffusion.methods.semi_ar import of_demonstrations
from unmask.diffusion.noise import elbo_weights
from unmask.diffusion.views import Canvas


@pytest.mark.parametrize("family", ["llada", "dream", "mmada"])
def test_the_loss_is_that_of_the_published_script(family: str) -> None:
    """`semi-ar`: rows of earlier groups clean, the current one under noise per token, later ones masked."""
    model = golden(family)
    batch = demonstrations(model)
    table = {"kind": "semi_ar", "level": "token", "train_block": 4}
    views, ours = our_loss(model, batch, table, "view")
    rows = list(rows_of(batch, views))
    for _, hidden, target in rows:
        group = int(target.nonzero()[0]) // 4
        assert not hidden[: group * 4].any()
        assert torch.equal(hidden[group * 4 : group * 4 + 4], target[group * 4 : group * 4 + 4])
        assert hidden[group * 4 + 4 :].all() and not target[group * 4 + 4 :].any()
    assert_same_loss(model, ours, full_rows_loss(model, rows))


def test_every_position_is_a_target_with_the_probability_of_its_level() -> None:
    config = SemiARViews(train_block=5, low=0.4, high=0.4, count=400)
    (views,) = of_demonstrations([((3,), (4,) * R, None)], config, Canvas(5, True, 16), [7])
    assert views.target.shape == (3 * 400, 16) and views.block == 16
    share = views.target.double().sum(0) / 400
    assert torch.allclose(share[:R], torch.tensor(0.4).double(), atol=0.1)
    assert not share[R:].any() and views.hidden[:, R:].all()
    assert views.noise_level is not None
    is_current = torch.arange(16) // 5 == torch.arange(3)[:, None]
    is_current[:, R:] = False
    assert torch.equal(views.noise_level > 0, is_current.repeat_interleave(400, 0))
    # Each response token counts once per mask in the ELBO, in the view of its own block.
    assert (elbo_weights(views.noise_level) > 0).sum() == R * 400


def test_blocks_are_needed_under_full_attention_only() -> None:
    assert "views.train_block" in (SemiARViews().refusal(is_full=True, is_shifted=False) or "")
    assert SemiARViews(train_block=4).refusal(is_full=True, is_shifted=False) is None
    assert SemiARViews().refusal(is_full=False, is_shifted=False) is None


def test_in_block_causal_models_it_is_block() -> None:
    model = golden("sdar")
    batch = demonstrations(model)
    losses = [our_loss(model, batch, {"kind": kind}, "tokens")[1] for kind in ("block", "semi_ar")]
    assert losses[0] == losses[1]
