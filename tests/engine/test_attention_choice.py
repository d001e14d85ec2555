"""The choice of a backend: by name, or by a measurement that is kept; here with a clock that is made up."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.toy import SPEC, toy_model
from unmask.engine import attention_choice
from unmask.engine.attention import Backend, Shapes, backend_of
from unmask.engine.attention_choice import (
    choose_attention,
    disagreement,
    kept_choice,
    key_of,
    measure,
    typical_tick,
)
from unmask.engine.engine import Engine
from unmask.engine.options import EngineParams

CPU = Shapes(replace(SPEC, head_width=16), torch.float32, torch.device("cpu"))


def clock_of(*ms: float) -> Callable[[Callable[[], Any]], float]:
    """Return a clock of made-up times, in the order of the backends."""
    left = iter(ms)

    def clock(call: Callable[[], Any]) -> float:
        call()
        return next(left)

    return clock


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let plain attention run under two names, the second of them as `flex` on CPU without a compiler."""
    plain = backend_of("plain")
    monkeypatch.setattr(attention_choice, "runnable", lambda shapes: ["plain", "flex"])
    monkeypatch.setattr(attention_choice, "backend_of", lambda name: plain)


def test_auto_is_plain_on_a_cpu_and_nothing_is_measured(tmp_path: Path) -> None:
    assert choose_attention("auto", CPU, 256, tmp_path) == "plain"
    assert not list(tmp_path.iterdir())
    assert Engine(toy_model(), EngineParams()).attention == "plain"


@pytest.mark.parametrize("name", ["kernel", "varlen"])
def test_a_backend_that_cannot_run_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match=f"attention = '{name}': needs .*used: plain, flex"):
        choose_attention(name, CPU, 256)


@pytest.mark.usefixtures("two")
def test_the_fastest_is_kept_and_not_measured_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kept_choice(CPU, 2, tmp_path, clock_of(3.0, 2.0)) == "flex"
    assert "attention: flex (ms per call: plain 3.0, flex 2.0" in capsys.readouterr().err
    assert kept_choice(CPU, 2, tmp_path, clock_of()) == "flex", "from the file"
    assert kept_choice(CPU, 3, tmp_path, clock_of(1.0, 2.0)) == "plain", "another shape"
    kept = json.loads((tmp_path / "attention.json").read_text())
    assert kept.keys() == {key_of(CPU, 2), key_of(CPU, 3)}


@pytest.mark.usefixtures("two")
def test_a_file_that_cannot_be_read_is_pointed_out(tmp_path: Path) -> None:
    (tmp_path / "attention.json").write_text("{")
    with pytest.warns(UserWarning, match="the choice of attention is not kept: .*not JSON"):
        assert kept_choice(CPU, 2, tmp_path, clock_of(1.0, 2.0)) == "plain"


def test_the_key_names_versions_and_shapes() -> None:
    key = key_of(CPU, 2)
    assert f"torch {torch.__version__}" in key and "plain 1; " in key
    assert attention_choice.candidates(CPU) == ["plain"], "flex is used by name only"
    other = replace(CPU.spec, num_heads=2 * CPU.spec.num_heads)
    assert key != key_of(CPU._replace(spec=other), 2)


def test_a_backend_that_disagrees_or_fails_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*tick: Any) -> Any:
        return lambda layer, q, k, v: q

    def broken(*tick: Any) -> Any:
        raise RuntimeError("no kernel image is available")

    backends = {
        "plain": backend_of("plain"),
        "flex": Backend(lambda shapes: "", lambda spec: wrong),
        "varlen": Backend(lambda shapes: "", lambda spec: broken),
    }
    monkeypatch.setattr(attention_choice, "runnable", lambda shapes: list(backends))
    monkeypatch.setattr(attention_choice, "backend_of", backends.__getitem__)
    found = measure(CPU, 2, clock_of(7.0))
    assert found["choice"] == "plain" and found["ms"] == {"plain": 7.0}
    assert "differs from fp32 attention" in found["failed"]["flex"]
    assert found["failed"]["varlen"] == "RuntimeError: no kernel image is available"


@pytest.mark.parametrize("changes", [{}, {"attention": "full", "block_size": 8}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_measured_tick_is_attention_within_rounding(changes: Any, dtype: torch.dtype) -> None:
    """Rows of one page and more; the bounds on runs hold."""
    shapes = Shapes(replace(CPU.spec, **changes), dtype, CPU.device)
    backend = backend_of("plain")
    tick = typical_tick(shapes, backend, 3, context=100)
    with torch.inference_mode():
        mixed = backend.build(shapes.spec)(*tick[:-1])(0, *tick.fed)
    assert disagreement(tick, mixed) < attention_choice.ROUNDINGS * torch.finfo(dtype).eps
    rows = tick.rows
    edges = rows.limit.diff().bool() | rows.sequence.diff().bool()
    assert int(edges.sum()) + 1 <= rows.most_runs
    assert disagreement(tick, mixed + torch.nan) == torch.inf
