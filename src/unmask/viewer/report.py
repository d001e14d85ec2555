"""`report.html`: a run on one page, drawn from the files of its directory alone.

One file that can be mailed, opened from a disk and read in ten years: no request leaves it, curves
are inline SVG, style and script stand in it. What the run wrote (prompts, responses, names, paths)
is hostile: it enters as escaped text or as a data block that the script turns into text nodes, and
a Content Security Policy that admits exactly our scripts and our style, by hash, stands behind that.

Drawing reads bounded amounts and writes one small file at once, so a run may draw itself again and
again while it goes on.
"""

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.resources import files as package_files
from itertools import count
from pathlib import Path
from typing import Any, cast

from unmask.runs.files import write_text
from unmask.viewer import headline, numbers
from unmask.viewer.charts import draw_chart
from unmask.viewer.curves import MORE, OUTCOME, TIME, charts
from unmask.viewer.evaluation import samplings_section
from unmask.viewer.markup import csp_hash, escape, json_island, json_text
from unmask.viewer.reading import RunFiles, read_run
from unmask.viewer.series import History, history
from unmask.viewer.traces import Traces, read_traces

NAME = "report.html"
REFRESH_S = 30
SCRIPTS = ("colours.js", "player.js", "report.js")
# A yellow square on blue: a revealed token among hidden ones.
ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http:%2F%2Fwww.w3.org%2F2000%2Fsvg' viewBox='0 0 16 16'%3E"
    "%3Crect width='16' height='16' rx='3' fill='%23255da8'/%3E"
    "%3Crect x='4' y='4' width='8' height='8' rx='1' fill='%23fff7c9'/%3E%3C/svg%3E"
)


def write_report(run_directory: Path, is_running: bool = False) -> Path:
    """Draw the report of a run into its directory, replacing an older one at once.

    Args:
        run_directory: of an SFT, RL or evaluation run; any of its files may be missing.
        is_running: whether the run goes on, so that the page draws itself anew.

    Returns:
        The path of `report.html`.

    Raises:
        OSError: a file cannot be read, or the report cannot be written.
    """
    path = run_directory / NAME
    write_text(path, report_html(run_directory, is_running))
    return path


def report_html(run_directory: Path, is_running: bool = False) -> str:
    """Return the report of a run; arguments and errors as `write_report`."""
    files, traces = read_run(run_directory), read_traces(run_directory / "trajectories.jsonl")
    style, scripts = _source("report.css"), list(map(_source, SCRIPTS))
    figures, read_outs, curves = _curves(files)
    body = [
        _header(files, is_running),
        figures.pop(OUTCOME, ""),
        samplings_section(files.samplings),
        "" if files.kind == "sft" and not traces.islands else _trajectories(traces),
        *figures.values(),
        _table("configuration", "Configuration", files.config),
        _table("environment", "Environment", files.environment),
        _footer(files, curves),
        _curves_data(curves, read_outs),
        json_island("traces-data", f"[{','.join(traces.islands)}]"),
        *(f"<script>{script}</script>" for script in scripts),
    ]
    running = f' data-running="{REFRESH_S}"' if is_running else ""
    head = _head(headline.title(files), style, scripts, is_running)
    return f"<!doctype html>\n{head}\n<body{running}>\n{''.join(body)}\n</body>\n</html>\n"


def _source(name: str) -> str:
    return package_files("unmask.viewer").joinpath(name).read_text(encoding="utf-8")


def _head(title: str, style: str, scripts: Iterable[str], is_running: bool) -> str:
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {' '.join(map(csp_hash, scripts))}",
            f"style-src {csp_hash(style)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    # With a script the page reloads itself when nobody is playing a trajectory, and keeps its place.
    refresh = f'<noscript><meta http-equiv="refresh" content="{REFRESH_S}"></noscript>'
    return (
        '<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        f"<title>{escape(title)}</title>{refresh if is_running else ''}"
        f'<link rel="icon" href="{ICON}"><style>{style}</style></head>'
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
        + "</header>\n"
    )


def _curves(files: RunFiles) -> tuple[dict[str, str], list[dict[str, Any]], History | None]:
    """Return the sections of curves as HTML, what the script reads out, and the curves themselves."""
    if not files.metrics:
        return {}, [], None
    curves, numbered = history(files.metrics), count()
    read_outs: list[dict[str, Any]] = []
    sections: dict[str, str] = {}
    for section, drawn in charts(curves).items():
        pairs = [draw_chart(chart, curves, next(numbered)) for chart in drawn]
        read_outs += [read_out for _, read_out in pairs]
        figures = "".join(figure for figure, _ in pairs)
        extra = _stages(files) if section == TIME else ""
        content = f'<div class="charts">{figures}{extra}</div>'
        sections[section] = _section(section, content, has_option=not sections)
    return sections, read_outs, curves


def _curves_data(curves: History | None, charts_data: list[dict[str, Any]]) -> str:
    steps = {"first": curves.first_step, "steps": curves.steps} if curves else {}
    return json_island("curves-data", json_text({**steps, "charts": charts_data}))


def _section(title: str, content: str, has_option: bool) -> str:
    if title == MORE:
        return f"<details><summary><h2>{escape(title)}</h2></summary>{content}</details>\n"
    smoothing = (
        '<label class="option"><input type="checkbox" id="smoothing" checked> smooth</label>'
        if has_option
        else ""
    )
    return (
        f'<section id="{escape(title.lower())}"><div class="section-head"><h2>{escape(title)}</h2>'
        f"{smoothing}</div>{content}</section>\n"
    )


def _stages(files: RunFiles) -> str:
    """Return where the time of the whole run went, as a table."""
    spent: dict[str, list[float]] = {}
    for row in files.metrics:
        for name, wall in row.items():
            stage = name.removesuffix("_wall_s")
            cpu = row.get(f"{stage}_cpu_s")
            if stage != name and numbers.is_number(wall) and numbers.is_number(cpu):
                sums = spent.setdefault(stage, [0.0, 0.0])
                sums[0] += wall
                sums[1] += cpu
    total = sum(wall for wall, _ in spent.values())
    if not total:
        return ""
    rows = "".join(
        f"<tr><th>{escape(stage)}</th><td>{numbers.duration(wall)}</td>"
        f"<td>{numbers.duration(cpu)}</td><td>{numbers.share(wall / total)}</td></tr>"
        for stage, (wall, cpu) in sorted(spent.items(), key=lambda item: -item[1][0])
    )
    return (
        '<figure class="card"><figcaption><h3>Time by stage</h3></figcaption><table class="stages">'
        "<thead><tr><th></th><th>wall</th><th>CPU</th><th>share</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></figure>"
    )


def _trajectories(traces: Traces) -> str:
    if not traces.islands:
        content = '<p class="note">No trajectory has been recorded.</p>'
    else:
        left_out = f"; {traces.num_left_out:,} more found no room" if traces.num_left_out else ""
        content = (
            f'<p class="note">{len(traces.islands):,} of the recorded responses{left_out}. Each box'
            " is a token in reading order, coloured by when it was revealed. Keys: space plays,"
            " left and right step.</p><noscript><p>Playing needs this page's own script.</p>"
            f"</noscript>{_source('player.html')}"
        )
    head = '<div class="section-head"><h2>Trajectories</h2></div>'
    return f'<section id="trajectories">{head}{content}</section>\n'


def _table(identifier: str, title: str, values: Mapping[str, Any]) -> str:
    """Return a section with every value by its dotted name, in groups."""
    if not values:
        return ""
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, value in _flat(values):
        group = name.split(".")[0] if isinstance(values[name.split(".")[0]], dict) else ""
        groups.setdefault(group, []).append((name.removeprefix(f"{group}.") or name, value))
    tables = "".join(
        f"<table><caption>{escape(group)}</caption>"
        + "".join(f"<tr><th>{escape(n)}</th><td>{escape(v)}</td></tr>" for n, v in rows)
        + "</table>"
        for group, rows in groups.items()
    )
    return (
        f'<section id="{identifier}"><div class="section-head"><h2>{escape(title)}</h2></div>'
        f'<div class="tables card">{tables}</div></section>\n'
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(cast(Mapping[str, Any], value), f"{prefix}{name}.")
        elif name == "argv" and isinstance(value, list):
            yield prefix + name, shlex.join(map(str, cast(list[object], value)))
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield prefix + name, text


def _footer(files: RunFiles, curves: History | None) -> str:
    now = datetime.now(UTC)
    at = f" at step {files.step:,}" if files.metrics else ""
    said = [
        f'Drawn <time id="drawn" datetime="{now.isoformat(timespec="seconds")}">'
        f"{now:%Y-%m-%d %H:%M:%S} UTC</time>{at} from {escape(files.path)}"
        ' by unmask.<span id="age"></span>'
    ]
    if curves and curves.bucket > 1:
        said.append(
            f"A point of a curve is the mean of {curves.bucket} steps; the faint band is their"
            " range."
        )
    if files.num_unreadable:
        said.append(f"Unreadable lines of metrics.jsonl: {files.num_unreadable:,}.")
    return f"<footer>{' '.join(said)}</footer>\n"
