"""The section of an evaluation: a table of all samplings, accuracy against speed, and lengths.

All numbers come from `summary.json` and `speed.json`. A missing or malformed value is shown as `-`,
and a chart that needs it is left out.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from unmask.runs.format import format_duration, format_number, format_share
from unmask.runs.read import Record, is_interval, is_number, subtable
from unmask.viewer.charts import Chart
from unmask.viewer.markup import html_table

OUTCOMES = ("correct", "wrong", "timeout", "crash", "unfit", "failed")
BIN = ("first", "last", "right", "others")


def evaluation_table(samplings: Mapping[str, Record]) -> str:
    """Return the results as an HTML table: a column per sampling, a line per result.

    Args:
        samplings: results by name of the sampling, its speed under `speed`.
    """
    columns = [_column(result) for result in samplings.values()]
    lines = dict.fromkeys(line for column in columns for line in column)
    rows = [(line, *(column.get(line, "-") for column in columns)) for line in lines]
    wide = " wide" if len(columns) > 2 else ""
    return f'<figure class="measured card{wide}">{html_table(("", *samplings), rows)}</figure>'


def evaluation_charts(samplings: Mapping[str, Record]) -> Iterator[Chart]:
    """Yield accuracy against speed, and the response lengths of each sampling."""
    if points := [point for name, found in samplings.items() for point in _points(name, found)]:
        note = "Accuracy over response tokens per forward pass; whiskers are 95 % intervals."
        data = {"kind": "points", "points": points, "is_share": True}
        yield Chart("Accuracy against speed", note, data)
    for name, found in samplings.items():
        bins = found.get("lengths")
        bars = [bar for entry in bins if (bar := _bar(entry))] if isinstance(bins, list) else []
        if any(bar["right"] + bar["others"] for bar in bars):
            note = "Responses by their number of tokens."
            yield Chart(f"Response length, {name}", note, {"kind": "bars", "bars": bars})


def _column(found: Record) -> dict[str, str]:
    speed, outcomes = subtable(found, "speed"), subtable(found, "outcomes")
    column = {"avg@n": _estimate(found.get("accuracy"), found.get("ci95"))}
    for label, name in (("pass", "pass_at"), ("maj", "majority_at")):
        for k in subtable(found, name):
            estimate = subtable(subtable(found, name), k)
            column[f"{label}@{k}"] = _estimate(estimate.get("value"), estimate.get("ci95"))
    column |= {
        "tokens / denoising step": _text(found.get("tokens_per_denoising_step"), format_number),
        "tokens / forward": _text(speed.get("tokens_per_forward"), format_number),
        "forwards / response": _text(speed.get("forwards"), format_number),
        "tokens / response": _text(found.get("response_tokens"), format_number),
        "truncated": _text(found.get("truncated"), format_share),
        "time": _text(speed.get("wall_s"), format_duration),
        "tokens / s": _text(speed.get("tokens_per_s"), format_number),
    }
    return column | {name: _text(outcomes.get(name), format_number) for name in OUTCOMES}


def _points(name: str, found: Record) -> Iterator[dict[str, Any]]:
    speed = subtable(found, "speed")
    x, y = speed.get("tokens_per_forward"), found.get("accuracy")
    x_interval, y_interval = speed.get("tokens_per_forward_ci95"), found.get("ci95")
    if is_number(x) and is_number(y) and is_interval(x_interval) and is_interval(y_interval):
        yield {"label": name, "x": x, "y": y, "across": x_interval, "up": y_interval}


def _bar(entry: object) -> Mapping[str, int] | None:
    """Return a bin of the histogram, None if one of its numbers is missing or malformed."""
    bar = cast(Record, entry) if isinstance(entry, dict) else {}
    values = [bar.get(name) for name in BIN]
    is_whole = all(isinstance(value, int) and is_number(value) for value in values)
    return dict(zip(BIN, cast(list[int], values), strict=True)) if is_whole else None


def _estimate(value: object, interval: object) -> str:
    if not is_number(value):
        return "-"
    if not is_interval(interval):
        return format_share(value)
    return f"{format_share(value)} ({format_share(interval[0])} .. {format_share(interval[1])})"


def _text(value: object, text: Callable[[float], str]) -> str:
    return text(value) if is_number(value) else "-"
