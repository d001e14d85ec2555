"""Ticks of random sequences, and the dense attention that every backend is compared with."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from tests.engine.models import model_of
from tests.engine.writers import Ask, by_engine, some_asks
from unmask.engine import engine as engine_module
from unmask.engine.attention import Backend, Planner
from unmask.engine.batch_plan import Rows
from unmask.engine.options import EngineParams
from unmask.engine.pages import SCRAP, num_pages
from unmask.models.attention import KEY_CHUNK
from unmask.models.transformer import Model
from unmask.types import Trajectory

HEADS, KV_HEADS, WIDTH = 4, 2, 8

Fed = tuple[int, int]  # positions a sequence has cached, and rows it feeds now
Drawn = tuple[list[Fed], list[list[int]], list[int], int]


def rows_of(fed: list[Fed], limits: list[list[int]], num_padding: int = 0) -> Rows:
    counts = torch.tensor([count for _, count in fed])
    padding = torch.zeros(num_padding, dtype=torch.int64)
    sequence = torch.arange(len(fed)).repeat_interleave(counts)
    return Rows(
        sequence=torch.cat((sequence, padding + len(fed) - 1)),
        position=torch.cat([*(torch.arange(c, c + n) for c, n in fed), padding]),
        limit=torch.cat((torch.tensor([n for row in limits for n in row]).long(), padding)),
        starts=counts.cumsum(0) - counts,
        counts=counts,
        longest_run=int(counts.max()),
        most_runs=int(counts.sum()),  # any limits: every row may be a run
    )


def dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend with one query `(H, E)` to all of `k, v (L, Hk, E)`."""
    repeats = q.shape[0] // k.shape[1]
    k, v = (x.repeat_interleave(repeats, 1) for x in (k, v))
    weights = (torch.einsum("he,lhe->hl", q, k) / q.shape[-1] ** 0.5).softmax(-1)
    return torch.einsum("hl,lhe->he", weights, v)


@st.composite
def ticks(draw: st.DrawFn) -> Drawn:
    """Draw what sequences have cached and feed, limits that never fall, a page order and padding."""
    fed = draw(
        st.lists(
            st.tuples(st.sampled_from([0, 3, 60, 64, 130]), st.integers(0, 20)),
            min_size=1,
            max_size=5,
        ).filter(lambda fed: any(count for _, count in fed))
    )
    limits = [
        sorted(draw(st.lists(st.integers(1, max(1, cached + n)), min_size=n, max_size=n)))
        for cached, n in fed
    ]
    most = sum(num_pages(cached + n) for cached, n in fed)
    return fed, limits, draw(st.permutations(range(1, most + 1))), draw(st.integers(0, 5))


def check_tick(
    planner: Planner,
    drawn: Drawn,
    page_size: int = KEY_CHUNK,
    heads_first: bool = False,
    dtype: torch.dtype = torch.float64,
) -> None:
    """Check that a tick writes its own places only, and that every row is dense attention below its limit."""
    fed, limits, pages, num_padding = drawn
    generator = torch.Generator().manual_seed(len(pages))
    rows = rows_of(fed, limits, num_padding)
    num_rows, free = len(rows.position), iter(pages)
    own = [[next(free) for _ in range(num_pages(cached + n, page_size))] for cached, n in fed]
    table = torch.full((len(fed), max(map(len, own), default=1) + 1), SCRAP)
    for sequence, numbers in enumerate(own):
        table[sequence, : len(numbers)] = torch.tensor(numbers)
    shape = (2, len(pages) + 1, KV_HEADS, page_size, WIDTH)
    keys, values = (torch.randn(shape, generator=generator, dtype=dtype) for _ in range(2))
    if heads_first:
        keys, values = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (keys, values))
    before = keys.clone(), values.clone()
    q, k, v = (
        torch.randn(num_rows, heads, WIDTH, generator=generator, dtype=dtype)
        for heads in (HEADS, KV_HEADS, KV_HEADS)
    )
    mixed = planner(rows, table, keys, values)(1, q, k, v)

    def text(cache: Tensor, sequence: int) -> Tensor:
        """Return a sequence's keys in order `(L, Hk, E)`."""
        return cache[1, table[sequence]].transpose(1, 2).flatten(0, 1)

    real = range(num_rows - num_padding)
    for row in real:
        page, place = divmod(int(rows.position[row]), page_size)
        page = int(table[rows.sequence[row], page])
        before[0][1, page, :, place], before[1][1, page, :, place] = k[row], v[row]
    assert torch.equal(keys[:, 1:], before[0][:, 1:]), "nothing else is written, but scrap"
    assert torch.equal(values[:, 1:], before[1][:, 1:])
    assert mixed.shape == q.shape
    for row in real:
        sequence, seen = int(rows.sequence[row]), int(rows.limit[row])
        expected = dense(q[row], text(keys, sequence)[:seen], text(values, sequence)[:seen])
        torch.testing.assert_close(mixed[row], expected)


def by_backend(
    backend: Backend, model: Model, asks: Sequence[Ask], params: EngineParams
) -> list[Trajectory]:
    """Write responses with an engine on a backend, whether or not it is the library's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_module, "backend_of", lambda name: backend)
        return by_engine(model, asks, params)


def check_engine(backend: Backend, kind: str) -> None:
    """Check that responses are the plain backend's, in fp64, where rounding decides nothing.

    The engine chooses sizes beforehand, as on CUDA, so that a plan's bounds are used.
    """
    model = model_of(kind, torch.float64)
    asks = some_asks(8, 3, model, longest=80)
    on_device = EngineParams(max_sequences=4, reads_late=True, row_budget=64)
    written = by_backend(backend, model, asks, on_device)
    plain = by_engine(model, asks, EngineParams(attention="plain"))
    for ours, theirs in zip(written, plain, strict=True):
        assert (ours.canvas_ids, ours.step_map) == (theirs.canvas_ids, theirs.step_map)
        gaps = zip(ours.behavior_logprobs, theirs.behavior_logprobs, strict=True)
        assert max(abs(a - b) for a, b in gaps) < 1e-9
