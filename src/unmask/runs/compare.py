"""`unmask runs A B`: what two runs were asked to do differently, and what each came to.

Only what differs is shown of configuration and environment; of the metrics every last value is,
since one that stayed the same is an answer too. Values are text on both sides: a comparison of two
kinds of run (sft and rl) has keys on one side alone, and `-` says so.
"""

from pathlib import Path
from typing import Any

from unmask.configs.keys import to_toml
from unmask.configs.load import flatten
from unmask.runs.history import PastRun, read_run
from unmask.runs.listing import duration
from unmask.runs.text_table import align

# Different in any two runs, and no reason for anything.
ALWAYS_DIFFERENT = {"run.dir", "start_time", "argv"}


def compare_runs(first: Path, second: Path) -> str:
    """Return the differences in configuration and environment, and the last metrics side by side.

    Raises:
        ValueError: one of them is no run, or its files are broken.
    """
    a, b = read_run(first), read_run(second)
    sections = {
        "config": _differences(a.config, b.config),
        "environment": _differences(a.environment, b.environment),
        "last metrics": _metrics(a, b),
    }
    headings = {"last metrics": ("", str(first), str(second), "difference")}
    parts = [
        f"{title}\n{align([headings.get(title, ('', str(first), str(second))), *rows])}"
        if rows
        else f"{title}: no difference"
        for title, rows in sections.items()
    ]
    return "\n\n".join(parts)


def _differences(a: dict[str, Any], b: dict[str, Any]) -> list[tuple[str, str, str]]:
    left, right = dict(flatten(a)), dict(flatten(b))
    return [
        (name, _text(left, name), _text(right, name))
        for name in left | right
        if name not in ALWAYS_DIFFERENT
        and (left.get(name), name in left) != (right.get(name), name in right)
    ]


def _text(values: dict[str, Any], name: str) -> str:
    return to_toml(values[name]) if name in values else "-"


def _metrics(a: PastRun, b: PastRun) -> list[tuple[str, str, str, str]]:
    rows = [
        ("steps", str(a.steps), str(b.steps), f"{b.steps - a.steps:+d}"),
        ("time in stages", duration(a.wall_s), duration(b.wall_s), f"{b.wall_s - a.wall_s:+.0f} s"),
    ]
    return rows + [_metric(name, a.numbers, b.numbers) for name in a.numbers | b.numbers]


def _metric(
    name: str, a: dict[str, float | None], b: dict[str, float | None]
) -> tuple[str, str, str, str]:
    left, right = a.get(name), b.get(name)
    difference = "" if left is None or right is None else f"{right - left:+.4g}"
    return name, _number(a, name), _number(b, name), difference


def _number(numbers: dict[str, float | None], name: str) -> str:
    value = numbers.get(name)
    if value is None:
        return "not finite" if name in numbers else "-"
    return f"{value:.4g}"
