"""`unmask runs A B`: keys that differ between two runs, and their last metrics next to each other.

Configuration and environment show only what differs. Metrics are all shown: an equal value is a
result too. A key that one run does not have is shown as `-`.
"""

from collections.abc import Sequence
from pathlib import Path

from unmask.configs.keys import to_toml
from unmask.configs.load import flatten
from unmask.runs.format import format_duration
from unmask.runs.read import Record, RunFiles, check_run, read_run
from unmask.runs.text_table import align

# Keys that differ between any two runs.
ALWAYS_DIFFERENT = {"run.dir", "start_time", "argv"}


def compare_runs(first: Path, second: Path) -> str:
    """Return the differences in configuration and environment, and the last metrics of both runs.

    Raises:
        ValueError: one of the directories is not a run's.
        OSError: a file cannot be read.
    """
    for path in (first, second):
        check_run(path)
    a, b = read_run(first), read_run(second)
    headings = ("", str(first), str(second))
    tables = {
        "config": [headings, *differences(a.config, b.config)],
        "environment": [headings, *differences(a.environment, b.environment)],
        "last metrics": [(*headings, "difference"), *_metrics(a, b)],
    }
    parts = [
        f"{title}\n{align(rows)}" if len(rows) > 1 else f"{title}: no difference"
        for title, rows in tables.items()
    ]
    problems = [*a.problems, *b.problems]
    return "\n\n".join([*parts, "\n".join(problems)] if problems else parts)


def differences(*tables: Record) -> list[tuple[str, ...]]:
    """Return the dotted keys whose values differ between tables, each with its value in every table."""
    flat = [dict(flatten(table)) for table in tables]
    rows = {
        name: tuple(to_toml(values[name]) if name in values else "-" for values in flat)
        for values in flat
        for name in values
    }
    return [
        (name, *cells)
        for name, cells in rows.items()
        if name not in ALWAYS_DIFFERENT and len(set(cells)) > 1
    ]


def _metrics(a: RunFiles, b: RunFiles) -> Sequence[Sequence[str]]:
    left, right = a.last_metrics, b.last_metrics

    def change(name: str) -> str:
        before, after = left.get(name), right.get(name)
        return "" if before is None or after is None else f"{after - before:+.4g}"

    times = format_duration(a.wall_s), format_duration(b.wall_s), f"{b.wall_s - a.wall_s:+.0f} s"
    return [
        ("steps", str(a.step), str(b.step), f"{b.step - a.step:+d}"),
        ("time in stages", *times),
        *((name, _value(left, name), _value(right, name), change(name)) for name in left | right),
    ]


def _value(metrics: dict[str, float | None], name: str) -> str:
    value = metrics.get(name)
    if value is None:
        return "not finite" if name in metrics else "-"
    return f"{value:.4g}"
