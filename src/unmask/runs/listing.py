"""`unmask runs`: every run of a directory on one line, oldest first."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from unmask.runs.format import format_duration
from unmask.runs.read import RunFiles, find_runs
from unmask.runs.text_table import align

HEADINGS = ("run", "kind", "task", "step", "reward", "accuracy", "eval accuracy", "age", "took")
RIGHT = (3, 4, 5, 7, 8)


def list_runs(directory: Path, now: datetime | None = None) -> str:
    """Return the runs in a directory as a table, followed by what is damaged in them.

    Args:
        directory: searched three levels deep.
        now: time at which ages are measured; the present by default.

    Raises:
        ValueError: the directory holds no run.
        OSError: a file cannot be read.
    """
    runs = find_runs(directory)
    table = align(
        [HEADINGS, *(_row(run, directory, now or datetime.now(UTC)) for run in runs)], RIGHT
    )
    return "\n".join([table, *(problem for run in runs for problem in run.problems)])


def accuracy_text(metrics: Mapping[str, float | None]) -> str:
    """Return the last evaluation's accuracy with its 95 % interval; `-` without an evaluation."""
    accuracy = metrics.get("eval_accuracy")
    low, high = metrics.get("eval_accuracy_low"), metrics.get("eval_accuracy_high")
    if accuracy is None:
        return "-"
    if low is None or high is None:
        return f"{accuracy:.1%}"
    return f"{accuracy:.1%} ({low:.1%} .. {high:.1%})"


def _row(run: RunFiles, directory: Path, now: datetime) -> Sequence[str]:
    metrics = run.last_metrics
    reward, accuracy = metrics.get("reward"), metrics.get("accuracy")
    name = str(run.path.relative_to(directory))
    return (
        run.path.name if name == "." else name,
        run.kind or "?",
        run.task or "-",
        f"{run.step}/{run.num_steps}" if run.num_steps else "-",
        "-" if reward is None else f"{reward:.3g}",
        "-" if accuracy is None else f"{accuracy:.1%}",
        accuracy_text(metrics),
        format_duration((now - run.start_time).total_seconds()) if run.start_time else "-",
        format_duration(run.wall_s),
    )
