"""Ranks that write nothing: the same calls, without effect."""

from collections.abc import Iterator
from inspect import signature

import pytest

from unmask.runs.metrics import Metrics
from unmask.runs.progress import Progress
from unmask.runs.silent import Silent
from unmask.viewer.live import LiveReport

STOOD_IN_FOR = [
    *((Metrics, name) for name in ("log", "record", "cut_back")),
    *((LiveReport, "refresh"), (Progress, "advance")),
]


@pytest.mark.parametrize(("kind", "name"), STOOD_IN_FOR)
def test_calls_are_those_of_rank_zero(kind: type, name: str) -> None:
    assert signature(getattr(Silent, name)) == signature(getattr(kind, name))


def test_nothing_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    def records() -> Iterator[dict[str, int]]:
        raise AssertionError("a record was computed")
        yield {}

    with Silent() as silent:
        silent.log(step=1, loss=2.0)
        silent.record(records())
        silent.cut_back(0)
        silent.refresh()
        silent.advance(1, loss=2.0)
    assert capfd.readouterr() == ("", "")
