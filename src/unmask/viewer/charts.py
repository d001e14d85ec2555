"""The charts of a training run: a table of titles and metrics (`charts.toml`), not code per kind of run.

A chart appears when one of its metrics was logged. A metric that no row of the table names gets a
chart of its own under "More", so that every logged number is shown. Python chooses the numbers;
`charts.js` draws them with uPlot.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from unmask.runs.format import format_number, format_share
from unmask.viewer.curves import Curve, Curves
from unmask.viewer.markup import escape

# Evaluation runs seldom and takes long: on one axis with it, the other stages are too small to read.
LEFT_OUT_STAGE = "eval"
NUM_COLOURS = 6
# Held-out results have this colour on every page.
COLOURS = {"held out": 1}
# The axis leaves out values further from the bulk than this many times the bulk's height.
FAR = 3.0
MIN_BULK = 60


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure of the page.

    Attributes:
        title: a word or two.
        note: the meaning of the numbers, in a sentence or two.
        data: the numbers, as `charts.js` reads them; `kind` is `lines`, `points` or `bars`.
    """

    title: str
    note: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """A chart of the table.

    Attributes:
        section: section of the page.
        title: of the chart.
        note: the meaning of the metrics, in a sentence.
        metrics: names in `metrics.jsonl`, each with its label in the legend.
        is_share: whether values are shares, shown as percentages.
        is_log: whether the axis is logarithmic.
        is_noisy: whether the curve may be smoothed.
    """

    section: str
    title: str
    note: str
    metrics: Mapping[str, str]
    is_share: bool = False
    is_log: bool = False
    is_noisy: bool = True


OUTCOME, UPDATE, TIME, MORE = "Outcome", "Update", "Time", "More"
SECTIONS = (OUTCOME, UPDATE, TIME, MORE)

_TABLE = files("unmask.viewer").joinpath("charts.toml").read_text("utf-8")
ROWS = tuple(Row(**row) for row in tomllib.loads(_TABLE)["chart"])


def charts_from_curves(curves: Curves) -> dict[str, list[Chart]]:
    """Return the charts of a run by section, in the order of the page; empty sections are left out."""
    left = dict(curves.by_name)
    stages, (same, zero) = _take_stages(left), take_equal_rewards(left)
    # Where the reward is the accuracy, its parts are details.
    section = OUTCOME if "reward" in left or "reward" not in curves.by_name else MORE
    found: dict[str, list[Chart]] = {section: [] for section in SECTIONS}
    for row in ROWS:
        if equal := [name for metric in row.metrics for name in same.get(metric, ())]:
            row = replace(row, note=f"{row.note} The same numbers: {', '.join(equal)}.")
        if zero and {"accuracy", "reward"} & row.metrics.keys() & left.keys():
            row = replace(row, note=f"{row.note} Always 0: {', '.join(zero)}.")
            zero = []
        if lines := {label: left.pop(name) for name, label in row.metrics.items() if name in left}:
            found[row.section].append(line_chart(row, lines))
    if stages:
        note = "Wall time of a step by stage; evaluation is left out."
        found[TIME].insert(0, line_chart(Row(TIME, "Seconds per step", note, {}), stages))
    parts = sorted(name for name in left if name.startswith("reward_"))
    reward_parts = Row(section, "Reward parts", "Mean over all responses of the step.", {})
    for first in range(0, len(parts), NUM_COLOURS):  # each line of a chart has its own colour
        names = parts[first : first + NUM_COLOURS]
        lines = {name.removeprefix("reward_"): left.pop(name) for name in names}
        found[section].append(line_chart(reward_parts, lines))
    found[MORE] += [
        line_chart(Row(MORE, name, "", {}), {name: curve}) for name, curve in left.items()
    ]
    return {section: charts for section, charts in found.items() if charts}


def line_chart(row: Row, lines: Mapping[str, Curve], colours: Mapping[str, int] = COLOURS) -> Chart:
    """Return the chart of a row.

    Args:
        row: title, note and kind of axis.
        lines: curves by their label in the legend.
        colours: number of the colour by label; that of the line's place for the others.
    """
    finite = [value for curve in lines.values() for value in curve.finite]
    # A logarithmic axis has no place for 0, which an exact engine reaches.
    is_log = row.is_log and min(finite) > 0
    y_range = None if is_log else _range_of_bulk(finite)
    text = format_share if row.is_share else format_number
    sentences = [row.note]
    if any(curve.has_interval for curve in lines.values()):
        sentences.append("The band is a 95 % interval.")
    if y_range is not None:
        ends = f"from {text(min(finite))} to {text(max(finite))}"
        sentences.append(f"Outliers are off the axis: values range {ends}.")
    sentences += _not_finite(lines)
    data: dict[str, Any] = {
        "kind": "lines",
        "lines": [
            {"label": label, **curve.data}
            | ({"colour": colours[label]} if label in colours else {})
            for label, curve in lines.items()
        ],
        "is_share": row.is_share,
        "is_log": is_log,
        "is_noisy": row.is_noisy,
        "range": y_range,
    }
    return Chart(row.title, " ".join(filter(None, sentences)), data)


def figure(chart: Chart, number: int) -> str:
    """Return a chart as HTML; `charts.js` draws item `number` of the page's charts into it."""
    title = escape(chart.title)
    return (
        f'<figure class="card chart" data-chart="{number}"><figcaption><h3>{title}</h3>'
        f'</figcaption><div class="plot" role="img" aria-label="{title}"></div>'
        f'<p class="note">{escape(chart.note)}</p></figure>'
    )


def _not_finite(lines: Mapping[str, Curve]) -> Iterator[str]:
    for label, curve in lines.items():
        if count := curve.num_not_finite:
            yield f"{label}: NaN or infinite at {count:,} step{'s'[: count != 1]}."


def _range_of_bulk(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the range of the middle 96 % with a margin, or None if no value is far outside."""
    ordered = sorted(values)
    low, high = ordered[len(ordered) // 50], ordered[-1 - len(ordered) // 50]
    reach = FAR * (high - low)
    is_low_far, is_high_far = ordered[0] < low - reach, ordered[-1] > high + reach
    if len(ordered) < MIN_BULK or reach == 0 or not (is_low_far or is_high_far):
        return None
    return (
        low - reach / 6 if is_low_far else ordered[0],
        high + reach / 6 if is_high_far else ordered[-1],
    )


def take_equal_rewards(left: dict[str, Curve]) -> tuple[dict[str, list[str]], list[str]]:
    """Remove rewards and parts of them that are drawn like the accuracy or the reward, or always 0.

    Returns:
        The removed names by the metric that stands for them, and the names of those that are 0.
    """
    if not {"accuracy", "reward"} & left.keys():
        return {}, []
    parts = sorted(name for name in left if name.startswith("reward_"))
    same: dict[str, list[str]] = {}
    for name in (*left.keys() & {"eval_reward", "reward"}, *parts):
        likely = ("eval_accuracy",) if name == "eval_reward" else ("accuracy", "reward")
        for other in (other for other in likely if other != name and other in left):
            if name in left and _is_same(left[other], left[name]):
                same.setdefault(other, []).append(name)
                del left[name]
    zero = [name for name in parts if name in left and not any(left[name].finite)]
    for name in zero:
        del left[name]
    return same, zero


def _is_same(a: Curve, b: Curve) -> bool:
    """Return whether two curves are drawn alike, apart from their bands."""
    return (list(a.at), a.data["values"]) == (list(b.at), b.data["values"])


def _take_stages(left: dict[str, Curve]) -> dict[str, Curve]:
    """Remove the times of the stages; return the elapsed seconds that are drawn."""
    stages: dict[str, Curve] = {}
    for name in list(left):
        stage = name.removesuffix("_wall_s")
        if stage != name and f"{stage}_cpu_s" in left:
            stages[stage] = left.pop(name)
            del left[f"{stage}_cpu_s"]
    stages.pop(LEFT_OUT_STAGE, None)
    return stages
