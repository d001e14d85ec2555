"""An engine has room for at least one response, and runs in one of the ways there are."""

from typing import Any

import pytest
import torch

from unmask.engine.options import EngineParams


@pytest.mark.parametrize(
    "wrong",
    [{"max_sequences": 0}, {"row_budget": 0}, {"cache_tokens": 0}, {"horizon": -1}],
    ids=str,
)
def test_an_engine_without_room_is_refused(wrong: dict[str, Any]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf"^{name} = {value}: must be at least"):
        EngineParams(**wrong)


@pytest.mark.parametrize(("name", "choices"), [("cache", "exact, prefix"), ("attention", "auto, ")])
def test_a_way_that_does_not_exist_is_refused(name: str, choices: str) -> None:
    wrong: dict[str, Any] = {name: "magic"}
    with pytest.raises(ValueError, match=rf"^{name} = 'magic': must be one of {choices}"):
        EngineParams(**wrong)


def test_the_default_is_exact() -> None:
    assert EngineParams().cache == "exact"
    assert EngineParams(max_sequences=1, row_budget=1, cache_tokens=1, horizon=0).fuses_commit


def test_what_is_left_to_the_device_is_filled_in() -> None:
    on_cpu, on_cuda = (EngineParams().on(torch.device(kind)) for kind in ("cpu", "cuda"))
    assert (on_cpu.row_budget, on_cpu.reads_late) == (2048, False)
    assert (on_cuda.row_budget, on_cuda.reads_late) == (16384, True)
    chosen = EngineParams(row_budget=7, reads_late=True)
    assert chosen.on(torch.device("cpu")) == chosen
