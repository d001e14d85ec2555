"""FlexAttention over the pages equals dense attention; it runs on CPU, compiled once and otherwise op by op."""

import warnings
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from torch.nn.attention.flex_attention import flex_attention

from tests.engine.attention_backends.ticks import Drawn, check_engine, check_tick, rows_of, ticks
from tests.engine.test_cuda_graphs import NoWaiting
from tests.toy import SPEC
from unmask.engine.attention import Shapes
from unmask.engine.attention_backends.flex import BACKEND, plan_flex_pages

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
PLANNER = partial(plan_flex_pages, rows_per_tile=4, attend=flex_attention)


@settings(max_examples=10)
@given(ticks())
def test_tiles_are_dense_attention_below_their_limit(drawn: Drawn) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_tick(PLANNER, drawn, heads_first=True)


@pytest.mark.parametrize("kind", ["blocks", "canvas, shifted"])
def test_an_engine_writes_what_the_plain_one_writes(kind: str) -> None:
    check_engine(replace(BACKEND, build=lambda spec: PLANNER), kind)


def test_compiled_it_computes_the_same() -> None:
    """Two sequences that read 1 and 3 pages; compiled by the backend itself, once."""
    planner = BACKEND.build(SPEC)
    drawn = [(0, 4), (130, 4)], [[4] * 4, [131, 131, 134, 134]], [3, 1, 4, 2], 0
    with torch.inference_mode():
        check_tick(planner, drawn, heads_first=True, dtype=torch.float32)


def test_a_plan_waits_for_nothing() -> None:
    rows = rows_of([(0, 8), (4, 4)], [[4] * 4 + [8] * 4, [8] * 4])
    keys = torch.zeros(1, 2, 3, 64, 8).transpose(1, 2)
    with NoWaiting() as waiting:
        PLANNER(rows, torch.tensor([[1], [2]]), keys, keys)
    assert not waiting.found


def test_the_obstacle_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    narrow = replace(SPEC, head_width=8)
    assert "at least 16, not 8" in BACKEND.obstacle(Shapes(narrow, torch.bfloat16, cuda))
    assert "at most 32 bits" in BACKEND.obstacle(Shapes(SPEC, torch.float64, cpu))
    monkeypatch.setattr(torch, "__version__", "2.11.0+cu130")
    assert "torch 2.13" in BACKEND.obstacle(Shapes(SPEC, torch.float32, cpu))
    assert not BACKEND.obstacle(Shapes(replace(SPEC, head_width=16), torch.bfloat16, cuda))
