"""Torch's `varlen_attn` (FlashAttention) with block tables, from torch 2.13 on.

Rows of a sequence that have the same limit follow each other; each such run is one sequence of the kernel,
without a causal mask, whose keys end at the limit (`seqused_k`). Prefill of a block-causal prompt is one run
per block, a fused commit two, and a full-attention canvas is one. The number of runs and their length are
bounded by `Rows.most_runs` and `Rows.longest_run`, so that nothing waits for the device; runs that do not
exist have no rows.

`num_splits = 1` promises that a row's bits do not depend on the rest of the batch. It is also the only
number that is right: with more, FlashAttention 2 leaves rows of paged calls unwritten (PyTorch issue
194167). FlashAttention 2, which torch contains, takes pages of 256 tokens and the ends of keys, which it
does not read; FlashAttention 3 (`activate_flash_attention_impl`) takes any page and refuses the ends.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unmask.engine.attention import Backend, Planner, Shapes, write_pages, written_places
from unmask.engine.batch_plan import Rows
from unmask.models.spec import ModelSpec

PAGE_SIZE = 256
WIDEST_HEAD = 256


class Runs(NamedTuple):
    """Runs of rows with one limit, as sequences of `varlen_attn`.

    Attributes:
        ends: `(runs + 1,)` int32, the row behind each run, and 0 before; runs that do not exist are empty.
        limit: `(runs,)` int32, keys that each sees.
        table: `(runs, pages)` int32, its pages.
    """

    ends: Tensor
    limit: Tensor
    table: Tensor


def plan_runs(rows: Rows, table: Tensor) -> Runs:
    """Return the runs of a pass, without waiting for the device."""
    is_real = rows.limit > 0
    is_first = torch.ones_like(is_real)
    is_first[1:] = rows.sequence.diff().bool() | rows.limit.diff().bool()
    # (runs,) the first row of each run; a static size, so that nothing waits for the device.
    first = torch.nonzero_static(is_first & is_real, size=rows.most_runs, fill_value=-1)[:, 0]
    exists, total = first >= 0, rows.counts.sum()[None]
    place = first.clamp(min=0)
    limit = rows.limit[place].where(exists, 0).int()
    ends = torch.cat((first.where(exists, total), total)).int()
    return Runs(ends, limit, table[rows.sequence[place]].int())


@dataclass(frozen=True, slots=True)
class VarlenAttend:
    """Attention of one tick by `varlen_attn`; what it returns for padding rows is undefined.

    Attributes:
        keys: `(layers, M, Hk, W, E)`, written in place.
        values: the same.
        written: `(T,)` index each row writes to, into the pages flattened to `(M * W,)`.
        runs: the sequences of the kernel.
        longest_run: bound on the rows of a run.
        varlen_attn: the function.
        takes_key_ends: whether it is given the ends of keys.
    """

    keys: Tensor
    values: Tensor
    written: Tensor
    runs: Runs
    longest_run: int
    varlen_attn: Callable[..., Any]
    takes_key_ends: bool

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Write `k, v (T, Hk, E)` to the pages of `layer`, then let `q (T, H, E)` attend."""
        keys, values = self.keys[layer], self.values[layer]
        write_pages(keys, k, self.written)
        write_pages(values, v, self.written)
        return self.varlen_attn(
            q,
            keys.transpose(1, 2),  # (M, W, Hk, E)
            values.transpose(1, 2),
            self.runs.ends,
            self.runs.ends if self.takes_key_ends else None,
            self.longest_run,
            self.runs.table.shape[1] * keys.shape[2],
            enable_gqa=q.shape[1] != k.shape[1],
            seqused_k=self.runs.limit,
            block_table=self.runs.table,
            num_splits=1,
        )


def plan_varlen(
    rows: Rows,
    table: Tensor,
    keys: Tensor,
    values: Tensor,
    varlen_attn: Callable[..., Any],
    takes_key_ends: bool,
) -> VarlenAttend:
    """Return a tick's attention by `varlen_attn`; nothing waits for the device."""
    written = written_places(rows, table, keys.shape[3])
    runs = plan_runs(rows, table)
    return VarlenAttend(keys, values, written, runs, rows.longest_run, varlen_attn, takes_key_ends)


def active_implementation() -> str:
    """Return the FlashAttention that `varlen_attn` calls: `FA2` unless another one has been activated."""
    try:
        from torch.nn.attention import current_flash_attention_impl
    except ImportError:  # before torch 2.13 there may be no other one
        return "FA2"
    return current_flash_attention_impl() or "FA2"


def takes_pages() -> bool:
    """Return whether torch's `varlen_attn` reads pages."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return False
    return {"block_table", "num_splits"} <= signature(varlen_attn).parameters.keys()


def _build(spec: ModelSpec) -> Planner:
    from torch.nn.attention.varlen import varlen_attn

    takes_key_ends = active_implementation() == "FA2"
    return partial(plan_varlen, varlen_attn=varlen_attn, takes_key_ends=takes_key_ends)


def _obstacle(shapes: Shapes) -> str:
    if not takes_pages():
        return f"torch 2.13 or newer, not {torch.__version__}"
    if shapes.device.type != "cuda":
        return f"a CUDA device, not {shapes.device}"
    if shapes.dtype not in (torch.bfloat16, torch.float16):
        return f"weights in bfloat16 or float16, not {shapes.dtype}"
    width = shapes.spec.head_width
    if width % 8 or width > WIDEST_HEAD:
        return f"a head width that is a multiple of 8, at most {WIDEST_HEAD}, not {width}"
    capability = torch.cuda.get_device_capability(shapes.device)
    if capability[0] < 8:
        return f"compute capability 8.0 or higher, not {capability[0]}.{capability[1]}"
    if active_implementation() == "FA4" and capability[0] != 10:
        return "FlashAttention 2 or 3 on this device: FlashAttention 4 reads no pages there"
    return ""


BACKEND = Backend(_obstacle, _build, page_size=PAGE_SIZE)
