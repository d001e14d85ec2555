"""The page of `unmask view` plays what a file holds, and states what it leaves out."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.viewer.browser import needs_chromium, opened
from tests.viewer.page import Page
from tests.viewer.toy_run import HOSTILE, TRAJECTORY, hostile_record, record, write_lines, write_run
from unmask.viewer.traces import shown
from unmask.viewer.view import choose_last, view_html, write_view


def page_of(place: Path, step: int | None = None) -> Page:
    out = place.parent / "page.html"
    write_view(place, out, step)
    return Page(out.read_text())


def test_run_is_shown_whole_or_one_step_of_it(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", trajectories=[record(s, seed=s) for s in range(1, 100)])
    assert [t["step"] for t in page_of(run).data("traces-data")] == list(range(1, 100))
    assert [t["step"] for t in page_of(run, step=7).data("traces-data")] == [7]
    with pytest.raises(ValueError, match="holds no trajectory of step 200"):
        page_of(run, step=200)


def test_file_may_be_lines_a_list_or_what_the_player_saved(tmp_path: Path) -> None:
    lines, items, saved = (tmp_path / name for name in ("a.jsonl", "b.json", "c.jsonl"))
    whole = json.loads(json.dumps(record()))
    ungraded = {**whole, "reward": None, "parts": None, "step": None}
    write_lines(lines, [ungraded])
    items.write_text(json.dumps([ungraded]))
    write_lines(saved, page_of(lines).data("traces-data"))
    traces = [page_of(path).data("traces-data") for path in (lines, items, saved)]
    assert traces[0] == traces[1] == traces[2] == [shown(ungraded)]


def test_what_is_left_out_is_stated(tmp_path: Path) -> None:
    whole = json.loads(json.dumps(record()))
    write_lines(tmp_path / "a.jsonl", [whole, {"text": "no trajectory"}, {**whole, "step_map": []}])
    assert "2 records cannot be played" in page_of(tmp_path / "a.jsonl").text
    found = choose_last([whole] * 9, max_bytes=3000)
    assert len(found.islands) + found.num_left_out == 9 and sum(map(len, found.islands)) <= 3000
    assert f"{found.num_left_out} earlier ones did not fit" in view_html("a", found)
    assert len(choose_last([whole] * 9, max_bytes=1).islands) == 1


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        page_of(tmp_path / "none.jsonl")
    run = write_run(tmp_path / "run")
    with pytest.raises(ValueError, match="a run writes them unless"):
        page_of(run)
    (tmp_path / "a.json").write_text('[{"full_output": ["x"]}]')
    with pytest.raises(ValueError, match="1 other record"):
        page_of(tmp_path / "a.json")


def test_hostile_names_and_records_are_text(tmp_path: Path) -> None:
    place = tmp_path / "<img src=x>.jsonl"
    saved = {**shown(json.loads(json.dumps(hostile_record()))), HOSTILE[0]: HOSTILE[1]}
    write_lines(place, [hostile_record(), saved])
    page = page_of(place)
    assert not page.all("img") and len(page.all("script")) == 4
    assert page.data("traces-data")[1][HOSTILE[0]] == HOSTILE[1]


@needs_chromium
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_page_fits_the_screen(browser: Browser, tmp_path: Path, scheme: str, width: int) -> None:
    write_lines(tmp_path / "a.jsonl", [record(seed=s) for s in range(3)] + [hostile_record()])
    write_view(tmp_path / "a.jsonl", tmp_path / "a.html")
    size = {"width": width, "height": 844}
    with opened(browser, tmp_path / "a.html", viewport=size, color_scheme=scheme) as page:
        expect(page.locator("unmask-player .counter")).to_be_in_viewport()
        assert page.evaluate("document.documentElement.scrollWidth") == width
        page.locator("#list .item").last.click()
        assert page.evaluate("document.documentElement.scrollWidth") == width


@needs_chromium
def test_only_the_chosen_trajectory_is_drawn_in_chunks(browser: Browser, tmp_path: Path) -> None:
    count, size = 50, 1000
    long = replace(
        TRAJECTORY,
        canvas_ids=(5,) * size,
        step_map=tuple(1 + place // 2 for place in range(size)),
        behavior_logprobs=(-0.5,) * size,
        num_response=size,
    )
    write_lines(tmp_path / "a.jsonl", [record(trajectory=long, seed=s) for s in range(count)])
    write_view(tmp_path / "a.jsonl", tmp_path / "a.html")
    with opened(browser, tmp_path / "a.html") as page:
        assert page.locator("#list .item").count() == count
        assert page.locator("unmask-player .token[data-position]").count() == size
        # A chunk ends with the block that fills it, here one of four tokens.
        chunks = page.locator("unmask-player .chunk")
        assert 1 < chunks.count() <= size / 150
        sizes = chunks.evaluate_all("all => all.map(one => one.querySelectorAll('.token').length)")
        assert sum(sizes) == size + 2 and max(sizes) <= 304
