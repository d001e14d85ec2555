"""`report.html`: one page per run, drawn from the files of its directory alone.

Drawing reads a bounded part of the trajectories and replaces the file at once, so that a running
run can redraw its page.
"""

import json
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import count, islice
from pathlib import Path
from typing import Any, cast

from unmask.runs.defaults import changed_keys
from unmask.runs.files import write_text
from unmask.runs.format import format_duration, format_share
from unmask.runs.read import RunFiles, read_run
from unmask.viewer import headline
from unmask.viewer.charts import MORE, OUTCOME, TIME, Chart, charts_from_curves, figure
from unmask.viewer.curves import Curves, curves_from_metrics
from unmask.viewer.evaluation import evaluation_charts, evaluation_table
from unmask.viewer.markup import escape, html_table, json_text
from unmask.viewer.page import Page, page_html, section
from unmask.viewer.player import source
from unmask.viewer.thumbnails import images_island, thumbnails
from unmask.viewer.traces import Traces, read_traces

NAME = "report.html"
SAMPLINGS = "Samplings"


def write_report(run_directory: Path, is_running: bool = False, path: Path | None = None) -> Path:
    """Draw the report of a run, replacing an older one at once.

    Args:
        run_directory: of an SFT, RL or evaluation run; any of its files may be missing.
        is_running: whether the run goes on, so that the page reloads itself.
        path: of the page; `report.html` in the directory by default.

    Returns:
        The path of the page.

    Raises:
        OSError: a file cannot be read, or the report cannot be written.
    """
    path = path or run_directory / NAME
    write_text(path, report_html(run_directory, is_running))
    return path


def report_html(run_directory: Path, is_running: bool = False) -> str:
    """Return the report of a run; arguments and errors as `write_report`."""
    files, traces = read_run(run_directory), read_traces(run_directory / "trajectories.jsonl")
    curves = curves_from_metrics(files.metrics)
    charts, sections = _chart_sections(files, curves)
    has_trajectories = files.kind not in ("sft", "dpo", "reward-model") or bool(traces.islands)
    body = [
        _header(files, is_running),
        _trajectories(traces) if has_trajectories else "",
        sections.pop(OUTCOME, ""),
        *sections.values(),
        _table("Configuration", files.config, changed_keys(files.config, files.kind)),
        _table("Environment", files.environment),
        _footer(files, curves),
    ]
    steps = {"steps": curves.steps, "charts": [chart.data for chart in charts]}
    islands = {
        "charts-data": json_text(steps),
        "traces-data": f"[{','.join(traces.islands)}]",
        **images_island(thumbnails(run_directory, traces.islands)),
    }
    return page_html(
        Page(
            headline.title(files),
            "".join(body),
            islands,
            has_player=bool(traces.islands),
            is_running=is_running,
        )
    )


def _header(files: RunFiles, is_running: bool) -> str:
    state = headline.state(files, is_running)
    facts = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in headline.facts(files)
    )
    tiles = "".join(
        f'<div class="card tile"><dt>{escape(tile.name)}</dt><dd>{escape(tile.value)}</dd>'
        f'<dd class="note">{escape(tile.note).replace(" %", "&nbsp;%")}</dd></div>'
        for tile in headline.tiles(files, is_running)
    )
    return (
        f'<header><div class="title"><h1>{escape(headline.title(files))}</h1>'
        f'<span class="state {escape(state.split()[0].rstrip(","))}">{escape(state)}</span></div>'
        f'<dl class="facts">{facts}</dl>'
        + (f'<dl class="tiles">{tiles}</dl>' if tiles else "")
        + "<noscript><p>Curves and trajectories are drawn by this page's own script.</p></noscript>"
        + "</header>\n"
    )


def _chart_sections(files: RunFiles, curves: Curves) -> tuple[list[Chart], dict[str, str]]:
    """Return all charts of the page, and the sections whose figures name them by their index."""
    found = charts_from_curves(curves)
    if files.samplings:
        found[SAMPLINGS] = list(evaluation_charts(files.samplings))
    charts = [chart for group in found.values() for chart in group]
    figures = map(figure, charts, count())
    sections: dict[str, str] = {}
    for title, group in found.items():
        content = "".join(islice(figures, len(group)))
        before = evaluation_table(files.samplings) if title == SAMPLINGS else ""
        after = _stages(files) if title == TIME else ""
        content = f'<div class="charts">{before}{content}{after}</div>'
        sections[title] = (
            f"<details><summary><h2>{title}</h2></summary>{content}</details>\n"
            if title == MORE
            else section(title, content)
        )
    return charts, sections


def _stages(files: RunFiles) -> str:
    """Return a table of the whole run's time by stage; empty if no stage was timed."""
    spent = {name: times for name, times in files.stages.items() if times.wall}
    total = sum(times.wall for times in spent.values())
    longest_first = sorted(spent.items(), key=lambda item: -item[1].wall)
    rows = [
        (name, *map(format_duration, (t.wall, t.cpu)), format_share(t.wall / total))
        for name, t in longest_first
    ]
    table = html_table(("", "wall", "CPU", "share"), rows)
    head = "<figcaption><h3>Time by stage</h3></figcaption>"
    return f'<figure class="card">{head}{table}</figure>' if rows else ""


def _trajectories(traces: Traces) -> str:
    if not traces.islands:
        content = '<p class="note">No trajectory has been recorded.</p>'
        return section("Trajectories", content)
    left_out = f"; {traces.num_left_out:,} more did not fit" if traces.num_left_out else ""
    note = (
        f'<p class="note">{len(traces.islands):,} of the recorded responses{left_out}'
        '<span class="keys">. Keys: space plays, left and right step</span></p>'
    )
    return section("Trajectories", source("trajectories.html"), note)


def _table(title: str, values: Mapping[str, Any], changed: Collection[str] = ()) -> str:
    """Return a closed section with every value by its dotted name, in groups; `changed` are marked."""
    if not values:
        return ""
    groups: dict[str, list[str]] = {}
    flat = dict(_flat(values))
    for name, value in flat.items():
        group = name.split(".")[0] if isinstance(values[name.split(".")[0]], dict) else ""
        mark = ' class="changed"' if name in changed else ""
        label = name.removeprefix(f"{group}.") or name
        cells = f"<th>{escape(label)}</th><td>{escape(value)}</td>"
        groups.setdefault(group, []).append(f"<tr{mark}>{cells}</tr>")
    tables = "".join(
        f"<table><caption>{escape(group)}</caption>{''.join(rows)}</table>"
        for group, rows in groups.items()
    )
    count = sum(name in changed for name in flat)
    note = f'<span class="note"> {count} of {len(flat)} keys differ from the defaults</span>'
    return (
        f'<details id="{title.lower()}"><summary><h2>{title}</h2>{note if changed else ""}'
        f'</summary><div class="tables card">{tables}</div></details>\n'
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(cast(Mapping[str, Any], value), f"{prefix}{name}.")
        elif name == "argv" and isinstance(value, list):
            yield prefix + name, shlex.join(map(str, cast(Sequence[object], value)))
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield prefix + name, text


def _footer(files: RunFiles, curves: Curves) -> str:
    now = datetime.now(UTC)
    at = f" at step {files.step:,}" if files.metrics else ""
    sentences = [
        f'Drawn <time id="drawn" datetime="{now.isoformat(timespec="seconds")}">'
        f"{now:%Y-%m-%d %H:%M:%S} UTC</time>{at} from {escape(files.path)}"
        ' by unmask.<span id="age"></span>',
        *map(escape, files.problems),
    ]
    if curves.bucket > 1:
        sentences.append(
            f"A point of a curve is the mean of {curves.bucket} steps; the faint band is their"
            " range."
        )
    return f"<footer>{' '.join(sentences)}</footer>\n"
