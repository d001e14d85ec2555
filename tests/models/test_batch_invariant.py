"""Batch-invariant models: what is refused, and rows whose bits are their own."""

import pytest
import torch

from tests.models.toy import SOFTMAX
from tests.toy import toy_model
from unmask.models import batch_invariant
from unmask.models.batch_invariant import linear_in_tiles, make_batch_invariant, obstacle
from unmask.models.lora import LoRAParams, adapters, add_lora, merge_lora
from unmask.models.moe import Router
from unmask.models.row_tile import Product, tile_of


@pytest.mark.parametrize("width", [8, 200])
@pytest.mark.parametrize("has_bias", [False, True])
def test_a_row_in_tiles_has_the_same_bits_in_any_company(width: int, has_bias: bool) -> None:
    assert tile_of(Product(width, 48, has_bias)) is not None
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(n, width, generator=generator) for n in (70, 48))
    bias = weight[:, 0].clone() if has_bias else None
    whole = linear_in_tiles(x, weight, bias)
    torch.testing.assert_close(whole, torch.nn.functional.linear(x, weight, bias))
    for rows in (1, 7, 16, 33):
        assert torch.equal(linear_in_tiles(x[-rows:], weight, bias), whole[-rows:])


def test_every_product_of_a_model_is_chosen() -> None:
    model = toy_model(moe=SOFTMAX, num_layers=3)
    make_batch_invariant(model)
    assert model.is_batch_invariant
    chosen = {name for name, m in model.named_modules() if getattr(m, "multiply", None)}
    assert all(model.get_submodule(n).multiply is linear_in_tiles for n in chosen)
    assert any(isinstance(model.get_submodule(n), Router) for n in chosen)
    assert "head.projection" in chosen


def test_adapters_multiply_as_their_projections_do() -> None:
    model = toy_model()
    make_batch_invariant(model)
    add_lora(model, LoRAParams(rank=2))
    assert {a.multiply for a in adapters(model).values()} == {linear_in_tiles}
    merged = merge_lora(model)
    assert merged.backbone.layers[0].ffn.up.multiply is linear_in_tiles  # type: ignore[union-attr]
    assert merged.is_batch_invariant


def test_what_cannot_be_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_invariant, "inexact", lambda model: ["8 x 9 in float32"])
    with pytest.raises(ValueError, match=r"model.batch_invariant = true: .* 8 x 9 in float32"):
        make_batch_invariant(toy_model())


def test_what_a_gpu_cannot_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The branch of a GPU, entered by a flag."""
    monkeypatch.setattr(batch_invariant, "has_triton", lambda device: True)
    assert obstacle(toy_model()) is None
    assert "float64" in str(obstacle(toy_model(dtype=torch.float64)))
    assert "experts" in str(obstacle(toy_model(moe=SOFTMAX, num_layers=3)))
    assert "vocabulary of 22" in str(obstacle(toy_model(vocab_size=22)))
