"""Paged attention: every query row has a row of the page table and a limit, and sees the keys below it.

A tick writes the keys and values of all its rows before it attends, so a block's rows see the block before
them even when both are fed at once, and sequences that share a page may read it in the pass that fills it.

A backend is a file in `attention_backends/` that defines `BACKEND`: where it can run, the layout of pages
that it needs, and its planner, from a tick's rows to the attention of all layers. All compute the same
within rounding: `plain` runs anywhere and gives the reference sampler's bits on CPU.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import NamedTuple, get_args

import torch
from torch import Tensor

from unmask.configs.engine import AttentionKind
from unmask.engine.batch_plan import Rows
from unmask.engine.pages import SCRAP, flat_place
from unmask.models.attention import KEY_CHUNK, Attend
from unmask.models.spec import ModelSpec
from unmask.models.transformer import Model

# From a tick's rows, the page table, and the stacked keys and values to the tick's attention.
Planner = Callable[[Rows, Tensor, Tensor, Tensor], Attend]
BACKENDS: tuple[AttentionKind, ...] = get_args(AttentionKind)[1:]  # the first is "auto"


class Shapes(NamedTuple):
    """What decides where a backend runs, and how fast: the model's shapes, number format and device."""

    spec: ModelSpec
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, model: Model) -> "Shapes":
        """Return the shapes of a model."""
        return cls(model.spec, model.dtype, model.device)


@dataclass(frozen=True, slots=True)
class Backend:
    """One implementation of paged attention.

    Attributes:
        obstacle: returns what it needs and does not have; empty where it can run.
        build: returns its planner for a model.
        version: raised when its bits or its speed change, so that measurements are taken again.
        page_size: tokens per page.
        heads_first: whether the pages of a head lie in one piece (`PagePool`).
        is_static: whether shapes and plan follow from bounds that the host has, so that nothing waits for
            the device and a CUDA graph holds.
        is_automatic: whether `auto` may choose it: not if every size of a pass costs seconds once.
    """

    obstacle: Callable[[Shapes], str]
    build: Callable[[ModelSpec], Planner]
    version: int = 1
    page_size: int = KEY_CHUNK
    heads_first: bool = False
    is_static: bool = True
    is_automatic: bool = True


def backend_of(name: AttentionKind) -> Backend:
    """Return the backend of a name other than `auto`."""
    found: Backend = import_module(f"unmask.engine.attention_backends.{name}").BACKEND
    return found


def row_attention(kind: AttentionKind, shapes: Shapes) -> AttentionKind:
    """Return the backend of a batch-invariant model: one whose bits depend on the row, in engine and learner.

    Raises:
        ValueError: if another one is asked for.
    """
    own: AttentionKind = "plain" if backend_of("kernel").obstacle(shapes) else "kernel"
    if kind not in ("auto", own):
        raise ValueError(
            f"attention = {kind!r}: model.batch_invariant = true takes {own!r} on {shapes.device}"
        )
    return own


def written_places(rows: Rows, table: Tensor, page_size: int) -> Tensor:
    """Return the index `(T,)` each row writes to, into the flat pages; padding writes to the scrap page."""
    written = flat_place(table[rows.sequence], rows.position, page_size)
    return written.where(rows.limit > 0, SCRAP * page_size)


def write_pages(cache: Tensor, fed: Tensor, written: Tensor) -> None:
    """Write `fed (T, Hk, E)` to one layer's pages `cache (M, Hk, W, E)`, at `written (T,)`, in place."""
    page_size = cache.shape[2]
    cache.transpose(1, 2)[written // page_size, written % page_size] = fed  # (M, W, Hk, E)
