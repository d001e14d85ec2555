"""`unmask report A B ...`: one page that compares runs.

Each metric has one chart with a curve per run; a run has one colour throughout. The tables show the
headline figures of the runs, the results of evaluations, and the configuration keys that differ.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

from unmask.runs.compare import differences
from unmask.runs.files import write_text
from unmask.runs.read import RunFiles, read_run
from unmask.viewer import headline
from unmask.viewer.charts import (
    MORE,
    NUM_COLOURS,
    ROWS,
    SECTIONS,
    Chart,
    Row,
    figure,
    line_chart,
    take_equal_rewards,
)
from unmask.viewer.curves import Curve, Curves, curves_from_metrics
from unmask.viewer.evaluation import evaluation_charts, evaluation_table
from unmask.viewer.markup import escape, html_table, json_text
from unmask.viewer.page import Page, page_html, section


def write_comparison(runs: Sequence[Path], out: Path) -> Path:
    """Write a page that compares runs, replacing an older one at once.

    Args:
        runs: directories of at least two runs.
        out: the page.

    Returns:
        The path of the page.

    Raises:
        ValueError: a run is given twice.
        OSError: a file cannot be read, or the page cannot be written.
    """
    if len({run.resolve() for run in runs}) < len(runs):
        raise ValueError("RUN...: a run is given twice; give each run once")
    write_text(out, comparison_html([read_run(run) for run in runs]))
    return out


def comparison_html(runs: Sequence[RunFiles]) -> str:
    """Return the page that compares runs."""
    names = _names(runs)
    by_name = dict(zip(names, runs, strict=True))
    curves = {name: curves_from_metrics(files.metrics) for name, files in by_name.items()}
    steps = sorted({step for one in curves.values() for step in one.steps})
    samplings = {
        f"{name}, {sampling}": found
        for name, files in by_name.items()
        for sampling, found in files.samplings.items()
    }
    charts: list[Chart] = []
    body = [
        f"<header><h1>Comparison of {len(runs)} runs</h1></header>",
        section("Headline", _headline_table(by_name)),
    ]
    numbers = count()

    def figures(found: Iterable[Chart], before: str = "") -> str:
        made = [(chart, figure(chart, next(numbers))) for chart in found]
        charts.extend(chart for chart, _ in made)
        return f'<div class="charts">{before}{"".join(html for _, html in made)}</div>'

    if samplings:
        points = [c for c in evaluation_charts(samplings) if c.data["kind"] == "points"]
        body.append(section("Samplings", figures(points, evaluation_table(samplings))))
    for title, found in _charts(curves, steps).items():
        content = figures(found)
        body.append(
            f"<details><summary><h2>{title}</h2></summary>{content}</details>\n"
            if title == MORE
            else section(title, content)
        )
    body.append(_differences(by_name))
    problems = [problem for files in runs for problem in files.problems]
    body.append(f"<footer>{' '.join(map(escape, problems)) or 'Drawn by unmask.'}</footer>\n")
    data = {"steps": steps, "charts": [chart.data for chart in charts]}
    islands = {"charts-data": json_text(data)}
    title = f"Comparison of {len(runs)} runs"
    return page_html(Page(title, "".join(body), islands, has_player=False))


def _names(runs: Sequence[RunFiles]) -> list[str]:
    """Return the part of each run's path that tells it from the others."""
    paths = [files.path.resolve() for files in runs]
    common = os.path.commonpath(paths)
    names = [os.path.relpath(path, common) for path in paths]
    # A run inside of another one, or one run alone.
    return [
        Path(path).name if name == "." else name for name, path in zip(names, paths, strict=True)
    ]


def _headline_table(by_name: Mapping[str, RunFiles]) -> str:
    """Return a table with a line per run, which has the colour of its curves."""
    tiles = {
        name: {tile.name: tile for tile in headline.tiles(files, is_running=False)}
        for name, files in by_name.items()
    }
    columns = list(dict.fromkeys(label for found in tiles.values() for label in found))
    head = "".join(f"<th>{escape(cell)}</th>" for cell in ("", "state", *columns))
    lines: list[str] = []
    for index, (name, files) in enumerate(by_name.items()):
        cells = [f"<td>{escape(headline.state(files, is_running=False))}</td>"]
        for label in columns:
            tile = tiles[name].get(label)
            value = f"<b>{escape(tile.value)}</b><span>{escape(tile.note)}</span>" if tile else "-"
            cells.append(f"<td>{value}</td>")
        mark = f'<i class="mark-{index % NUM_COLOURS}"></i>'
        title = f"<b>{escape(name)}</b><span>{escape(headline.title(files))}</span>"
        lines.append(f"<tr><th>{mark}{title}</th>{''.join(cells)}</tr>")
    return (
        f'<div class="runs card"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _charts(curves: Mapping[str, Curves], steps: Sequence[int]) -> dict[str, list[Chart]]:
    """Return the charts by section: one per metric that a run has logged."""
    place = {step: index for index, step in enumerate(steps)}
    colours = {name: index for index, name in enumerate(curves)}
    rest = dict.fromkeys(name for one in curves.values() for name in one.by_name)
    found: dict[str, list[Chart]] = {title: [] for title in SECTIONS}

    def lines(metric: str) -> dict[str, Curve]:
        return {
            # From places among the run's own steps to places among those of all runs.
            run: replace(curve, at=tuple(place[one.steps[at]] for at in curve.at))
            for run, one in curves.items()
            if (curve := one.by_name.get(metric))
        }

    equal = _equal_everywhere(curves)
    dropped = {name for names in equal.values() for name in names}
    rows = [(row, metric, label) for row in ROWS for metric, label in row.metrics.items()]
    rows += [(Row(MORE, name, "", {}), name, "") for name in rest if not _is_listed(name)]
    for row, metric, label in rows:
        if names := equal.get(metric):
            row = replace(row, note=f"{row.note} The same numbers: {', '.join(names)}.")
        if metric not in dropped and (drawn := lines(metric)):
            is_own = len(row.metrics) == 1 or label == row.title.lower()
            title = row.title if is_own else f"{row.title}, {label}"
            found[row.section].append(line_chart(replace(row, title=title), drawn, colours))
    return {title: charts for title, charts in found.items() if charts}


def _equal_everywhere(curves: Mapping[str, Curves]) -> dict[str, list[str]]:
    """Return the rewards that every run draws like another metric, by that metric."""
    folds = [take_equal_rewards(dict(one.by_name))[0] for one in curves.values()]
    metrics = dict.fromkeys(metric for fold in folds for metric in fold)
    return {
        metric: [
            name
            for name in folds[0].get(metric, ())
            if all(name in f.get(metric, ()) for f in folds)
        ]
        for metric in metrics
    }


def _is_listed(metric: str) -> bool:
    return any(metric in row.metrics for row in ROWS)


def _differences(by_name: Mapping[str, RunFiles]) -> str:
    rows = differences(*(files.config for files in by_name.values()))
    if not rows:
        return section("Configuration", '<p class="note">No key differs.</p>')
    table = html_table(("", *by_name), rows)
    return (
        f'<details id="configuration" open><summary><h2>Configuration</h2><span class="note"> '
        f'{len(rows)} keys differ</span></summary><div class="measured card wide">{table}</div></details>\n'
    )
