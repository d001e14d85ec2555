"""Law 1 at the widths of real checkpoints, and on processors whose products need larger tiles of rows.

A library of matrix products chooses its kernels by shape, so that what holds at a toy's widths may not
hold at others.
"""

from typing import Any

import pytest

from tests.engine.bits import unpriced
from tests.engine.writers import Ask, by_engine, by_reference
from tests.models.other_processor import multiply_by, other_below
from tests.toy import toy_model
from unmask.engine.options import EngineParams
from unmask.models import row_tile
from unmask.models.row_tile import inexact
from unmask.models.spec import MoESpec
from unmask.sampling_params import SamplingParams

# Query heads and the feed-forward's width at each width; above 1024 both are cut, for time.
WIDTHS = {576: (9, 1536), 1024: (16, 3072), 2048: (8, 2048), 4096: (8, 1024)}
EXPERTS = MoESpec(layers=(1, 2), num_experts=6, num_active=2, width=256, shared_width=192)


def asks() -> list[Ask]:
    """Return requests of unlike lengths, so that company fills tiles that one alone does not."""
    lengths = (3, 41, 14, 90)
    return [([i + 2] * n, SamplingParams(max_tokens=7, seed=i)) for i, n in enumerate(lengths)]


@pytest.mark.parametrize("width", WIDTHS)
def test_trajectories_at_published_widths(width: int) -> None:
    heads, ffn_width = WIDTHS[width]
    shape: dict[str, Any] = {
        "num_heads": heads,
        "num_kv_heads": 1,
        "head_width": 64 if width == 576 else 128,
    }
    model = toy_model(1, num_layers=1, width=width, ffn_width=ffn_width, max_length=1024, **shape)
    if parts := inexact(model):
        pytest.skip(f"this processor has no tile for {parts}")
    together = by_engine(model, asks())
    assert [by_engine(model, [ask])[0] for ask in asks()] == together
    assert by_reference(model, asks()[2]) == together[2]


WIDE: dict[str, dict[str, Any]] = {
    "blocks": {},
    "canvas": {"attention": "full", "block_size": 6},
    "experts": {"moe": EXPERTS},
}


@pytest.mark.parametrize("kind", WIDE)
@pytest.mark.parametrize("rows", [16, 64])
def test_trajectories_where_few_rows_are_multiplied_otherwise(
    kind: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = toy_model(1, width=256, ffn_width=192, max_length=1024, **WIDE[kind])
    if parts := inexact(model):
        pytest.skip(f"this processor has no tile for {parts}")
    multiply_by(other_below(rows), monkeypatch)
    for params in (EngineParams(), EngineParams(reads_late=True, row_budget=60)):
        together = unpriced(by_engine(model, asks(), params))
        assert unpriced([by_engine(model, [ask], params)[0] for ask in asks()]) == together
        assert unpriced([by_reference(model, ask) for ask in asks()]) == together


def test_a_processor_without_a_tile_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    multiply_by(other_below(1024), monkeypatch)
    model = toy_model(1, width=256)
    with pytest.warns(UserWarning, match=r"law 1 does not hold .* 256 x 16 in float32") as caught:
        by_engine(model, asks()[:1])
    assert len(caught) == 1


def test_a_tile_too_small_breaks_the_law(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above would see it."""
    multiply_by(other_below(64), monkeypatch)
    monkeypatch.setattr(row_tile, "tried_tile", lambda *_: 8)
    model = toy_model(1, width=256, ffn_width=192, max_length=1024)
    together = by_engine(model, asks())
    assert [by_engine(model, [ask])[0] for ask in asks()] != together
