"""Off a terminal: few plain lines. On one: a bar with the numbers, also inside another bar."""

import io

import pytest

from unmask.runs import progress
from unmask.runs.progress import Progress


class Terminal(io.StringIO):
    """A stream that reports being a terminal."""

    def isatty(self) -> bool:
        return True


def test_log_gets_one_line_at_the_end() -> None:
    log = io.StringIO()
    with Progress(3, "RL", stream=log) as bar:
        for accuracy in (0.1, 0.2, 0.512345):
            bar.advance(accuracy=accuracy, tokens_per_s=1234.5, lr=1e-4)
    assert log.getvalue() == ("RL 3/3  took 0:00:00  accuracy 0.512  tokens/s 1234  lr 0.0001\n")


def test_log_gets_lines_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress, "monotonic", lambda: clock[0])
    log = io.StringIO()
    with Progress(10, "SFT", stream=log) as bar:
        for clock[0] in (4.0, 11.0, 12.0, 25.0):
            bar.advance(2)
    assert log.getvalue() == "SFT 4/10  ETA 0:00:16\nSFT 8/10  ETA 0:00:06\n"


def test_odd_numbers_are_shown() -> None:
    log = io.StringIO()
    with Progress(1, "x", stream=log) as bar:
        bar.advance(a=float("nan"), b=float("inf"), c=3, d=0.0)
    assert log.getvalue().endswith("  a nan  b inf  c 3  d 0\n")


def test_terminal_gets_a_bar() -> None:
    terminal = Terminal()
    with Progress(2, "outer", stream=terminal) as outer:
        with Progress(1, "inner", stream=terminal) as inner:
            inner.advance(accuracy=0.25)
        outer.advance(2, reward=0.75)
    assert "inner" in terminal.getvalue()
    assert "accuracy 0.25" in terminal.getvalue()
    assert "2/2" in terminal.getvalue()
    assert "reward 0.75" in terminal.getvalue()
