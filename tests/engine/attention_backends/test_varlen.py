"""The plan for `varlen_attn`, run through a stand-in in PyTorch: everything is exercised but the library's kernel."""

import inspect
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from tests.engine.attention_backends.ticks import Drawn, check_engine, check_tick, rows_of, ticks
from tests.engine.test_cuda_graphs import NoWaiting
from tests.toy import SPEC
from unmask.engine.attention import Shapes
from unmask.engine.attention_backends.varlen import BACKEND, PAGE_SIZE, plan_runs, plan_varlen


def stand_in(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor | None,
    max_q: int,
    max_k: int,
    *,
    return_aux: Any = None,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
    seqused_k: Tensor | None = None,
    block_table: Tensor | None = None,
    num_splits: int | None = None,
) -> Tensor:
    """Stand in for `varlen_attn`, with the demands of FlashAttention 2 on its arguments; loops over runs."""
    assert seqused_k is not None and block_table is not None and num_splits == 1
    assert all(x.dtype == torch.int32 for x in (cu_seq_q, seqused_k, block_table))
    assert return_aux is None and scale is None and window_size == (-1, -1)
    assert cu_seq_k is not None and len(cu_seq_k) == len(cu_seq_q) == len(seqused_k) + 1
    assert key.shape[1] % 256 == 0 and key.stride(-1) == value.stride(-1) == query.stride(-1) == 1
    assert enable_gqa == (query.shape[1] != key.shape[2]) and max_k == block_table.shape[1] * 256
    repeats = query.shape[1] // key.shape[2]
    mixed = torch.full_like(query, torch.nan)
    ends = cu_seq_q.tolist()
    for run, (first, end) in enumerate(pairwise(ends)):
        assert 0 <= end - first <= max_q, "a longer run would be left out"
        pages, length = block_table[run].long(), int(seqused_k[run])
        k, v = (x[pages].flatten(0, 1)[:length].repeat_interleave(repeats, 1) for x in (key, value))
        scores = torch.einsum("the,lhe->htl", query[first:end], k) * query.shape[-1] ** -0.5
        mixed[first:end] = torch.einsum("htl,lhe->the", scores.softmax(-1), v)
    return mixed


def test_the_stand_in_takes_the_arguments_of_the_library() -> None:
    theirs, ours = (list(inspect.signature(f).parameters) for f in (varlen_attn, stand_in))
    assert theirs == ours


PLANNER = partial(plan_varlen, varlen_attn=stand_in, takes_key_ends=True)


@settings(max_examples=40)
@given(ticks())
def test_runs_are_dense_attention_below_their_limit(drawn: Drawn) -> None:
    check_tick(PLANNER, drawn, PAGE_SIZE)


def test_runs_are_rows_of_one_limit_and_the_rest_is_empty() -> None:
    """A prompt of two blocks, a sequence that waits, a fused commit, and padding."""
    rows = rows_of([(0, 8), (4, 0), (4, 8)], [[4] * 4 + [8] * 4, [], [8] * 4 + [12] * 4], 3)
    rows = rows._replace(most_runs=6)
    runs = plan_runs(rows, torch.tensor([[1, 2], [3, 4], [5, 6]]))
    assert runs.ends.tolist() == [0, 4, 8, 12, 16, 16, 16]
    assert runs.limit.tolist() == [4, 8, 8, 12, 0, 0]
    assert runs.table[:4].tolist() == [[1, 2], [1, 2], [5, 6], [5, 6]]


def test_two_sequences_with_the_same_limit_are_two_runs() -> None:
    rows = rows_of([(0, 4), (0, 4)], [[4] * 4] * 2)
    assert plan_runs(rows, torch.tensor([[1], [2]])).ends.tolist()[:3] == [0, 4, 8]


@pytest.mark.parametrize("kind", ["blocks", "blocks, shifted", "canvas", "canvas, shifted"])
def test_an_engine_on_the_stand_in_writes_what_the_plain_one_writes(kind: str) -> None:
    """Its pages are larger too."""
    check_engine(replace(BACKEND, build=lambda spec: PLANNER), kind)


def test_a_plan_waits_for_nothing() -> None:
    rows = rows_of([(0, 8), (4, 4)], [[4] * 4 + [8] * 4, [8] * 4])
    keys = torch.zeros(1, 3, 2, PAGE_SIZE, 8)
    with NoWaiting() as waiting:
        PLANNER(rows, torch.tensor([[1], [2]]), keys, keys)
    assert not waiting.found


def test_the_obstacle_is_named() -> None:
    def obstacle(dtype: torch.dtype = torch.bfloat16, device: str = "cuda", **spec: Any) -> str:
        return BACKEND.obstacle(Shapes(replace(SPEC, **spec), dtype, torch.device(device)))

    assert "a CUDA device, not cpu" in obstacle(device="cpu")
    assert "bfloat16 or float16, not torch.float32" in obstacle(torch.float32)
    assert "at most 256, not 260" in obstacle(head_width=260)
