"""The row tile is measured, for any library of matrix products."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.models.other_processor import GROUPED, LINEAR, multiply_by, other_below
from tests.models.toy import family_model
from tests.toy import toy_model
from unmask.models import row_tile as tiles
from unmask.models.lora import LoRAParams, add_lora
from unmask.models.row_tile import Product, inexact, least_tile, products, row_tile, tile_of


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("rows", "tile"), [(2, 8), (8, 8), (9, 16), (16, 16), (17, 32), (64, 64), (65, None)]
)
def test_the_smallest_tile_whose_rows_keep_their_bits(rows: int, tile: int | None) -> None:
    weight, x = drawn(40, 256), drawn(256, 256)
    multiply = other_below(rows, 192)
    assert least_tile(lambda some: multiply(some, weight), x) == tile
    assert least_tile(lambda some: multiply(some[:, :191], weight[:, :191]), x) == 8


def test_rows_whose_bits_depend_on_all_others_have_no_tile() -> None:
    x = drawn(256, 32)
    assert least_tile(lambda some: some * some.sum(), x) is None


def test_a_model_gets_the_largest_tile_of_its_widths(monkeypatch: pytest.MonkeyPatch) -> None:
    multiply_by(other_below(16, 192), monkeypatch)
    assert tile_of(Product(191, 64)) == 8
    assert tile_of(Product(192, 64)) == 16
    assert row_tile([Product(64, 64), Product(256, 64), Product(64, 192)]) == 16
    assert row_tile(products(toy_model())) == 8
    assert row_tile(products(toy_model(ffn_width=192))) == 16


def test_a_product_without_a_tile_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    multiply_by(other_below(512, 64), monkeypatch)
    model = toy_model()
    assert inexact(model) == ["64 x 32 in float32"]
    assert row_tile(products(model)) == 8


def test_a_trial_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def counted(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        seen.append(len(x))
        return LINEAR(x, weight, bias)

    multiply_by(counted, monkeypatch)
    assert tile_of(Product(24, 16)) == tile_of(Product(24, 16))
    num_products = len(seen)
    tile_of(Product(24, 16))
    assert len(seen) == num_products > 1


def test_a_large_weight_is_tried_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()

    def counted(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        seen.add(weight.numel())
        return LINEAR(x, weight, bias)

    multiply_by(counted, monkeypatch)
    tile_of(Product(2560, 151_936))
    assert seen == {tiles.MOST_ELEMENTS // 2560 * 2560}


def test_every_product_of_a_pass_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of attention, feed-forwards, experts, router, head and adapters; with biases."""
    for family in ("sdar", "llada2", "dream"):
        model = family_model(family)
        add_lora(model, LoRAParams(rank=2, targets=("attention",)))
        made: set[tuple[int, int]] = set()

        def recorded(
            x: Tensor, weight: Tensor, bias: Tensor | None = None, made: set[tuple[int, int]] = made
        ) -> Tensor:
            made.add((weight.shape[1], weight.shape[0]))
            return LINEAR(x, weight, bias)

        def recorded_groups(
            x: Tensor, weight: Tensor, offs: Tensor, made: set[tuple[int, int]] = made
        ) -> Tensor:
            made.add((weight.shape[1], weight.shape[2]))
            return GROUPED(x, weight, offs=offs)

        tried = {(product.width_in, product.width_out) for product in products(model)}
        with monkeypatch.context() as changed:
            row_tile(products(model))
            for part in model.modules():
                if hasattr(part, "multiply"):
                    changed.setattr(part, "multiply", recorded)
            changed.setattr(F, "grouped_mm", recorded_groups)
            model.logits(torch.arange(1, 25).view(2, 12))
        assert made == tried


def test_attention_is_tried_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def sloppy(q: Tensor, keys: Tensor, values: Tensor, hidden: Tensor) -> Tensor:
        return F.softmax(q @ keys.transpose(1, 2), -1) @ values + keys.shape[1] * 1e-3

    monkeypatch.setattr(tiles, "attend_chunks", sloppy)
    tiles.attention_holds.cache_clear()
    assert inexact(toy_model())[-1] == "attention with heads of 8"
    tiles.attention_holds.cache_clear()
