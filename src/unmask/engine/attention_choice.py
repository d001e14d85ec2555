"""The choice of the attention backend; `auto` is measured once per device and shape, and kept.

The last bits of results depend on the backend, so the choice must be the same in every run and after
every resume: it is kept in the user's cache folder, under everything that it depends on. A backend that
disagrees with attention in fp32, or fails, is not chosen. A run records which one it uses.
"""

import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from filelock import FileLock
from torch import Tensor

from unmask.configs.engine import AttentionKind
from unmask.engine.attention import BACKENDS, Backend, Shapes, backend_of
from unmask.engine.attention_backends.varlen import active_implementation
from unmask.engine.batch_plan import Rows
from unmask.engine.kernels.paged_attention import attend_plain
from unmask.engine.pages import num_pages
from unmask.json_files import read_object
from unmask.models.attention import KEY_CHUNK, round_up

# A typical tick: so many sequences at most, each with a context of about so many tokens.
SEQUENCES, CONTEXT = 64, 1024
# Largest difference from fp32 attention, as a share of its largest value: some roundings of the format.
ROUNDINGS = 8
REPEATS, CALLS = 5, 10


class Tick(NamedTuple):
    """A tick that is measured: its rows, the page table, one layer's pages, and what is fed."""

    rows: Rows
    table: Tensor
    keys: Tensor
    values: Tensor
    fed: tuple[Tensor, Tensor, Tensor]


def choose_attention(
    kind: AttentionKind, shapes: Shapes, max_sequences: int, folder: Path | None = None
) -> AttentionKind:
    """Return the name of the backend that `kind` stands for.

    Args:
        kind: a backend's name, or `auto`: `plain` on CPU, elsewhere the fastest by measurement.
        shapes: of the model.
        max_sequences: of the engine.
        folder: where measurements are kept; the user's cache folder if not given.

    Raises:
        ValueError: if a backend is asked for by name where it cannot run.
    """
    if kind == "auto":
        if shapes.device.type != "cuda":
            return "plain"
        sequences = min(max_sequences, SEQUENCES)
        return kept_choice(shapes, sequences, folder or cache_folder(), time_on_cuda)
    if obstacle := backend_of(kind).obstacle(shapes):
        raise ValueError(
            f"attention = {kind!r}: needs {obstacle}; here can be used: {', '.join(runnable(shapes))}"
        )
    return kind


def runnable(shapes: Shapes) -> list[AttentionKind]:
    """Return the backends that can run."""
    return [name for name in BACKENDS if not backend_of(name).obstacle(shapes)]


def candidates(shapes: Shapes) -> list[AttentionKind]:
    """Return the backends that `auto` chooses from."""
    return [name for name in runnable(shapes) if backend_of(name).is_automatic]


def cache_folder() -> Path:
    """Return the user's cache folder of this package."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unmask"


def kept_choice(
    shapes: Shapes, sequences: int, folder: Path, clock: Callable[[Callable[[], Any]], float]
) -> AttentionKind:
    """Return the choice that is kept under these shapes; measure it if there is none."""
    key, file = key_of(shapes, sequences), folder / "attention.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Processes that start together measure once, and agree.
        with FileLock(file.with_suffix(".lock")):
            kept = read_object(file) if file.is_file() else {}
            found = kept.get(key)
            if not isinstance(found, dict) or found.get("choice") not in candidates(shapes):
                found = measure(shapes, sequences, clock)
                _replace(file, kept | {key: found})
    except (OSError, ValueError) as error:
        found = measure(shapes, sequences, clock)
        warnings.warn(f"the choice of attention is not kept: {error}", stacklevel=2)
    figures = ", ".join(f"{name} {ms}" for name, ms in found["ms"].items())
    failed = "".join(f"; {name} was left out: {why}" for name, why in found["failed"].items())
    sys.stderr.write(
        f"attention: {found['choice']} (ms per call: {figures}{failed}; kept in {file})\n"
    )
    return found["choice"]


def key_of(shapes: Shapes, sequences: int) -> str:
    """Return everything that a measurement depends on, in one line."""
    spec, device = shapes.spec, shapes.device
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    try:
        from triton import __version__ as triton
    except ImportError:
        triton = None
    versions = ", ".join(f"{name} {backend_of(name).version}" for name in candidates(shapes))
    return (
        f"{card}; torch {torch.__version__}, triton {triton}, {active_implementation()}; {versions}; "
        f"heads {spec.num_heads}/{spec.num_kv_heads} x {spec.head_width}, {shapes.dtype}, "
        f"{spec.attention} block {spec.block_size}; {sequences} sequences, context {CONTEXT}"
    )


def measure(
    shapes: Shapes, sequences: int, clock: Callable[[Callable[[], Any]], float]
) -> dict[str, Any]:
    """Return `choice`, `ms` per call of each backend that agrees, and why others were left out, `failed`.

    Args:
        shapes: of the model.
        sequences: of the tick.
        clock: milliseconds that a call takes.
    """
    ms: dict[str, float] = {}
    failed: dict[str, str] = {}
    for name in candidates(shapes):
        try:
            ms[name] = round(ms_per_call(backend_of(name), shapes, sequences, clock), 4)
        except torch.OutOfMemoryError:  # no property of the backend, and it would be kept
            raise
        except Exception as error:  # of any library: the others are still measured
            failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    if not ms:
        raise RuntimeError(f"no attention backend runs on {shapes.device}: {failed}")
    return {"choice": min(ms, key=ms.__getitem__), "ms": ms, "failed": failed}


@torch.inference_mode()
def ms_per_call(
    backend: Backend, shapes: Shapes, sequences: int, clock: Callable[[Callable[[], Any]], float]
) -> float:
    """Return the milliseconds of one layer's attention in a typical tick.

    Raises:
        ValueError: if it is not attention within rounding.
    """
    if shapes.spec.is_full:
        sequences = max(1, sequences // 16)  # a canvas is many rows
    tick = typical_tick(shapes, backend, sequences)
    attend = backend.build(shapes.spec)(*tick[:-1])
    gap, most = disagreement(tick, attend(0, *tick.fed)), ROUNDINGS * torch.finfo(shapes.dtype).eps
    if gap > most:
        raise ValueError(f"differs from fp32 attention by {gap:.1e}, more than {most:.1e}")
    return clock(lambda: attend(0, *tick.fed))


def typical_tick(
    shapes: Shapes,
    backend: Backend,
    sequences: int,
    context: int = CONTEXT,
    count: int | None = None,
) -> Tick:
    """Return a tick in which every sequence feeds its last `count` positions, in whole blocks.

    By default those are a finished block and the next one; under full attention its whole canvas.
    """
    spec, dtype, device = shapes
    block = spec.block_size or KEY_CHUNK
    length = round_up(context, block)
    count = length if spec.is_full else count or min(2 * block, length)
    position = torch.arange(length - count, length, device=device)
    limit = torch.full_like(position, length) if spec.is_full else (position // block + 1) * block
    sequence = torch.arange(sequences, device=device)
    counts = torch.full_like(sequence, count)
    longest = count if spec.is_full else block
    rows = Rows(
        sequence.repeat_interleave(count),
        position.repeat(sequences),
        limit.repeat(sequences),
        sequence * count,
        counts,
        longest_run=longest,
        most_runs=sequences * (count // longest + 1),
    )
    per_sequence = num_pages(length, backend.page_size)
    order = torch.randperm(sequences * per_sequence, generator=torch.Generator().manual_seed(0))
    table = (order + 1).view(sequences, per_sequence).to(device)
    generator = torch.Generator(device).manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device).to(dtype)

    heads, width = spec.num_kv_heads, spec.head_width
    pages = (2, heads, len(order) + 1, backend.page_size, width)
    # (2, M, Hk, W, E), in memory as the backend wants it; the model's keys and values are normed.
    cache = random(*pages).transpose(1, 2)
    cache = cache if backend.heads_first else cache.contiguous()
    keys, values = cache[:, None]  # (1, M, Hk, W, E)
    fed = [random(len(rows.position), n, width) for n in (spec.num_heads, heads, heads)]
    return Tick(rows, table, keys, values, (fed[0], fed[1], fed[2]))


def disagreement(tick: Tick, mixed: Tensor) -> float:
    """Return the largest difference from attention in fp32, as a share of its largest value."""
    rows, (q, _, _) = tick.rows, tick.fed
    expected = attend_plain(q, tick.keys[0], tick.values[0], tick.table, rows.sequence, rows.limit)
    gap = (mixed.float() - expected.float()).abs().max() / expected.float().abs().max()
    return float(gap.nan_to_num(torch.inf))


def time_on_cuda(call: Callable[[], Any]) -> float:
    """Return the median milliseconds of a call among some that are queued after each other."""
    for _ in range(3):
        call()
    times: list[float] = []
    for _ in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(CALLS):
            call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / CALLS)
    return median(times)


def _replace(file: Path, content: dict[str, Any]) -> None:
    """Write a file in one step."""
    fresh = file.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(content, indent=1) + "\n")
    fresh.replace(file)
