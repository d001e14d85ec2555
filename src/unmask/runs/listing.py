"""`unmask runs`: every run of a directory in a line, oldest first."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from unmask.runs.history import PastRun, find_runs
from unmask.runs.text_table import align

HEADINGS = ("run", "kind", "task", "step", "reward", "accuracy", "eval accuracy", "age", "took")
RIGHT = (3, 4, 5, 7, 8)


def list_runs(directory: Path, now: datetime | None = None) -> str:
    """Return the runs in a directory as a table.

    Args:
        directory: looked through, some levels deep.
        now: what ages are counted to; by default the present.

    Raises:
        ValueError: there is no run in it.
    """
    moment = now or datetime.now(UTC)
    return align([HEADINGS, *(_row(run, directory, moment) for run in find_runs(directory))], RIGHT)


def duration(seconds: float) -> str:
    """Return a time span as people say it: `41 s`, `12 min`, `3.4 h`, `2 d`."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size * (2 if unit == "d" else 1):
            amount = seconds / size
            return f"{amount:.1f} {unit}" if unit == "h" and amount < 10 else f"{amount:.0f} {unit}"
    return f"{seconds:.0f} s"


def accuracy_text(numbers: Mapping[str, float | None]) -> str:
    """Return the last evaluation's accuracy with its 95 % interval; `-` where there was none."""
    accuracy = numbers.get("eval_accuracy")
    low, high = numbers.get("eval_accuracy_low"), numbers.get("eval_accuracy_high")
    if accuracy is None:
        return "-"
    if low is None or high is None:
        return f"{accuracy:.1%}"
    return f"{accuracy:.1%} ({low:.1%} .. {high:.1%})"


def _row(run: PastRun, directory: Path, now: datetime) -> Sequence[str]:
    numbers = run.numbers
    asked = run.config.get("steps")
    reward, accuracy = numbers.get("reward"), numbers.get("accuracy")
    name = str(run.path.relative_to(directory))
    return (
        run.path.name if name == "." else name,
        run.kind,
        run.task,
        f"{run.steps}/{asked}" if asked else "-",
        "-" if reward is None else f"{reward:.3g}",
        "-" if accuracy is None else f"{accuracy:.1%}",
        accuracy_text(numbers),
        duration((now - run.start_time).total_seconds()),
        duration(run.wall_s),
    )
