"""The page is complete, self-contained and harmless, and needs no particular file of the run."""

import re
import time
from pathlib import Path

import pytest

from tests.viewer.page import Page
from tests.viewer.toy_run import (
    HOSTILE,
    hostile_record,
    metrics,
    record,
    write_lines,
    write_run,
)
from unmask.viewer.report import report_html, write_report


def page_of(directory: Path, is_running: bool = False) -> Page:
    return Page(write_report(directory, is_running).read_text())


@pytest.mark.parametrize("kind", ["rl", "sft", "eval"])
def test_page_of_every_kind_parses(tmp_path: Path, kind: str) -> None:
    page = page_of(write_run(tmp_path, kind=kind, trajectories=[record()]))
    assert page.all("title")[0].text.endswith("on chain_sum")
    numbers = [figure.attributes["data-chart"] for figure in page.all("figure", "chart")]
    assert numbers == [str(n) for n in range(len(page.data("charts-data")["charts"]))] != []
    assert len(page.data("traces-data")) == 1
    assert page.one("player")
    identifiers = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
    assert len(identifiers) == len(set(identifiers))


def test_configuration_and_environment_are_listed(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path))
    cells = {cell.text for cell in page.all("td")}
    assert {"chain_sum", "a/model", "40", "unmask 'a b'"} <= cells
    assert page.one("configuration").name == "details"  # closed
    assert "open" not in page.one("configuration").attributes
    assert "keys differ from the defaults" in page.text
    assert len(page.all("tr", "changed")) == 5


def test_page_makes_no_request(tmp_path: Path) -> None:
    source = report_html(write_run(tmp_path, trajectories=[record()]))
    page = Page(source)
    source = source.replace("https://github.com/leeoniya/uPlot (v1.6.32)", "")  # a comment
    source = source.replace('"http://www.w3.org/2000/svg"', "")  # the name of SVG's elements
    assert not re.search(r"(?:https?:)?//\w[\w-]*\.\w|url\(|@import|fetch\(|XMLHttp", source)
    assert not page.all("img") and not page.all("iframe")
    links = [e for e in page.elements if {"src", "href", "srcset", "action"} & set(e.attributes)]
    assert [link.attributes["href"][:11] for link in links] == ["data:image/"]


def test_hostile_text_is_text(tmp_path: Path) -> None:
    plain, hostile = tmp_path / "plain", tmp_path / f"<img src=x>&{HOSTILE[4]}"
    write_run(plain, trajectories=[record()])
    write_run(hostile, trajectories=[hostile_record()])
    write_lines(
        hostile / "metrics.jsonl", [{"step": 1, HOSTILE[1]: 1.0, f"reward_{HOSTILE[0]}": 1}]
    )
    before, after = page_of(plain), page_of(hostile)
    assert len(before.all("script")) == len(after.all("script"))
    assert not after.all("img")
    assert after.data("traces-data")[0]["pieces"] == hostile_record()["pieces"]
    assert HOSTILE[1] in {heading.text for heading in after.all("h3")}


def test_running_page_reloads_itself(tmp_path: Path) -> None:
    write_run(tmp_path)
    running, ended = page_of(tmp_path, is_running=True), page_of(tmp_path)

    def refreshes(page: Page) -> list[tuple[str, ...]]:
        found = (e for e in page.all("meta") if e.attributes.get("http-equiv") == "refresh")
        return [element.parents for element in found]

    assert refreshes(running) == [("html", "head", "noscript")]
    assert running.all("body")[0].attributes["data-running"] == "30"
    assert not refreshes(ended) and "data-running" not in ended.all("body")[0].attributes
    assert "running, step 40 of 40" in running.text
    assert running.one("drawn").text.endswith("UTC") and "at step 40 from" in running.text


def test_empty_directory_has_a_page(tmp_path: Path) -> None:
    page = page_of(tmp_path, is_running=True)
    assert not page.all("figure")
    assert "No trajectory has been recorded." in page.text


def test_half_written_files_are_drawn(tmp_path: Path) -> None:
    write_run(tmp_path, trajectories=[record()])
    for name in ("metrics.jsonl", "trajectories.jsonl"):
        with (tmp_path / name).open("a") as file:
            file.write('{"step": 41, "lo')
    page = page_of(tmp_path, is_running=True)
    assert page.data("charts-data")["steps"][-1] == 40
    assert len(page.data("traces-data")) == 1


def test_numbers_of_any_size_are_drawn(tmp_path: Path) -> None:
    values = [0, 5e-324, 1e300, -1e300, float("inf"), 1.7e308, 10**400, True, None]
    rows = [{"step": step, "loss": value, "kl_max": value} for step, value in enumerate(values)]
    write_run(tmp_path, trajectories=[record() | {"reward": 10**400}, record()])
    write_lines(tmp_path / "metrics.jsonl", rows)
    page = page_of(tmp_path)
    assert len(page.data("charts-data")["charts"]) == 2
    assert len(page.data("traces-data")) == 1


def test_curves_hold_the_metrics(tmp_path: Path) -> None:
    data = page_of(write_run(tmp_path)).data("charts-data")
    assert data["steps"] == list(range(1, 41))
    lines = [line["values"] for chart in data["charts"] for line in chart.get("lines", [])]
    assert [number / 40 for number in range(1, 41)] in lines


def test_damaged_lines_and_thinning_are_stated(tmp_path: Path) -> None:
    write_run(tmp_path)
    write_lines(tmp_path / "metrics.jsonl", metrics(1300))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('nonsense\n{"step": 1301}\n')
    (footer,) = page_of(tmp_path).all("footer")
    assert "mean of 3 steps" in footer.text
    assert "metrics.jsonl: 1 damaged line left out." in footer.text


def test_long_run_is_small_and_quick(tmp_path: Path) -> None:
    write_run(tmp_path, num_steps=10_000, trajectories=[record(s, seed=s) for s in range(2000)])
    start = time.process_time()
    path = write_report(tmp_path)
    assert time.process_time() - start < 3  # about 0.5 s on the machine this was written on
    assert path.stat().st_size < 1_000_000


def test_older_page_is_replaced_completely(tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / "report.html").write_text("old")
    assert write_report(tmp_path).read_text().endswith("</html>\n")
    assert not list(tmp_path.glob("*.tmp-*"))
