"""What an evaluation found, on the page: every sampling in a row, accuracy against speed, lengths.

The numbers come from `summary.json` and `speed.json` alone. A value that is missing or no number is
shown as `-`, and a picture that lacks one is left out: a report draws whatever is there.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard, cast

from unmask.viewer.bars import Bar, draw_bars
from unmask.viewer.markup import escape
from unmask.viewer.numbers import duration, is_number, share, short
from unmask.viewer.scatter import Mark, draw_scatter

Found = Mapping[str, Any]

OUTCOMES = ("correct", "wrong", "timeout", "crash", "unfit", "failed")


def samplings_section(samplings: Mapping[str, Found]) -> str:
    """Return the section of an evaluation; empty if nothing was found.

    Args:
        samplings: by name what was found, and under `speed` what was measured.
    """
    if not samplings:
        return ""
    columns = [_column(found) for found in samplings.values()]
    lines = list(dict.fromkeys(line for column in columns for line in column))
    head = "".join(f"<th>{escape(name)}</th>" for name in samplings)
    body = "".join(
        f"<tr><th>{escape(line)}</th>"
        + "".join(f"<td>{escape(column.get(line, '-'))}</td>" for column in columns)
        + "</tr>"
        for line in lines
    )
    return (
        '<section id="samplings"><div class="section-head"><h2>Samplings</h2></div>'
        '<div class="measured card"><table class="stages"><thead><tr><th></th>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div>"
        f'<div class="charts">{"".join(_figures(samplings))}</div></section>\n'
    )


def _column(found: Found) -> dict[str, str]:
    """Return what the table says of a sampling, line by line."""
    speed, outcomes = _table(found, "speed"), _table(found, "outcomes")
    column = {"avg@n": _estimated(found.get("accuracy"), found.get("ci95"))}
    for label, name in (("pass", "pass_at"), ("maj", "majority_at")):
        for k, estimate in _table(found, name).items():
            if isinstance(estimate, dict):
                value = cast(Found, estimate)
                column[f"{label}@{k}"] = _estimated(value.get("value"), value.get("ci95"))
    column |= {
        "tokens / denoising step": _text(found.get("tokens_per_denoising_step"), short),
        "tokens / forward": _text(speed.get("tokens_per_forward"), short),
        "forwards / response": _text(speed.get("forwards"), short),
        "tokens / response": _text(found.get("response_tokens"), short),
        "truncated": _text(found.get("truncated"), share),
        "time": _text(speed.get("wall_s"), duration),
        "tokens / s": _text(speed.get("tokens_per_s"), short),
    }
    return column | {name: _text(outcomes.get(name), short) for name in OUTCOMES}


def _figures(samplings: Mapping[str, Found]) -> Iterator[str]:
    marks = [mark for name, found in samplings.items() for mark in _marks(name, found)]
    if marks:
        note = "Accuracy over response tokens per forward pass; bars are 95 % intervals."
        yield draw_scatter("Accuracy against speed", note, marks)
    for name, found in samplings.items():
        bars = [bar for entry in _list(found, "lengths") for bar in _bars(entry)]
        if any(right + others for *_, right, others in bars):
            yield draw_bars(
                f"Response length, {name}", "Responses by their number of tokens.", bars
            )


def _marks(name: str, found: Found) -> Iterator[Mark]:
    speed = _table(found, "speed")
    x, y = speed.get("tokens_per_forward"), found.get("accuracy")
    x_interval, y_interval = speed.get("tokens_per_forward_ci95"), found.get("ci95")
    if is_number(x) and is_number(y) and _is_pair(x_interval) and _is_pair(y_interval):
        yield Mark(name, x, y, x_interval, y_interval)


def _bars(entry: object) -> Iterator[Bar]:
    if isinstance(entry, dict):
        table = cast(Found, entry)
        numbers = [table.get(name) for name in ("first", "last", "right", "others")]
        if all(isinstance(number, int) and is_number(number) for number in numbers):
            first, last, right, others = cast(list[int], numbers)
            yield first, last, right, others


def _estimated(value: object, interval: object) -> str:
    if not is_number(value):
        return "-"
    if not _is_pair(interval):
        return share(value)
    return f"{share(value)} ({share(interval[0])} .. {share(interval[1])})"


def _text(value: object, text: Any) -> str:
    return text(value) if is_number(value) else "-"


def _is_pair(value: object) -> TypeGuard[tuple[float, float]]:
    if not isinstance(value, list):
        return False
    ends = cast(list[object], value)
    return len(ends) == 2 and all(map(is_number, ends))


def _list(found: Found, name: str) -> list[object]:
    value = found.get(name)
    return cast(list[object], value) if isinstance(value, list) else []


def _table(found: Found, name: str) -> Found:
    value = found.get(name)
    return cast(Found, value) if isinstance(value, dict) else {}
