"""The player shows recorded trajectories and such that are being written, by mouse, keys and script."""

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.viewer.browser import needs_chromium, opened
from tests.viewer.toy_run import TRAJECTORY, record, revising_record, write_run
from unmask.runs.trajectories import grid_ids
from unmask.viewer.notebook import trajectory_html
from unmask.viewer.player import player_script
from unmask.viewer.report import write_report
from unmask.viewer.traces import shown


@pytest.fixture
def element(tmp_path: Path) -> Path:
    """A page of the element alone, as a notebook has it."""
    path = tmp_path / "element.html"
    pieces = [f"[{token}]" for token in grid_ids(TRAJECTORY)]
    html = trajectory_html(TRAJECTORY, "text", pieces)
    path.write_text(f"<!doctype html><meta charset=utf-8>{html}")
    return path


def counter(page: Page) -> Any:
    return page.locator("unmask-player .counter")


def canvas(page: Page) -> list[str]:
    """Return the tokens that can be seen, `_` where one is hidden."""
    boxes = page.locator("unmask-player .token[data-position]")
    return boxes.evaluate_all(
        "all => all.map(e => e.classList.contains('veiled') ? '_' : e.textContent)"
    )


def call(page: Page, code: str, argument: object = None) -> Any:
    """Run JavaScript in which `player` is the element and `given` the argument."""
    find = "const player = document.querySelector('unmask-player');"
    return page.evaluate(f"given => {{ {find} {code} }}", argument)


def test_script_makes_no_request_and_writes_no_html() -> None:
    script = player_script()
    for name in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "fetch("):
        assert name not in script


@needs_chromium
def test_trajectory_opens_hidden_and_plays_once(browser: Browser, element: Path) -> None:
    with opened(browser, element, moves=True) as page:
        steps = (
            "window.steps = []; player.addEventListener('unmask-step', e => steps.push(e.detail));"
        )
        call(page, f"{steps} player.speed = 4; player.trajectory = player.trajectory;")
        expect(counter(page)).to_contain_text("step 3 of 3")
        assert not call(page, "return player.isPlaying;")
        assert page.evaluate("steps") == [0, 1, 2, 3]


@needs_chromium
def test_trajectory_opens_at_its_last_step_without_motion(browser: Browser, element: Path) -> None:
    with opened(browser, element) as page:
        expect(counter(page)).to_have_text("denoising step 3 of 3 · 5 of 6 revealed · 2 now")
        assert canvas(page) == ["[14]", "[18]", "[15]", "[14]", "[20]", "_"]


@needs_chromium
def test_every_step_shows_what_was_written_until_then(browser: Browser, element: Path) -> None:
    with opened(browser, element) as page:
        for step in (0, 3, 1, 2, 0, 2, 1, 3):
            call(page, "player.step = given;", step)
            steps = (1, 2, 1, 3, 3, 0)
            texts = ("[14]", "[18]", "[15]", "[14]", "[20]", "[0]")
            assert canvas(page) == [
                text if 0 < at <= step else "_" for at, text in zip(steps, texts, strict=True)
            ]
            fresh = page.locator(".token.fresh[data-position]")
            assert fresh.count() == steps.count(step) * (step > 0)


@needs_chromium
def test_details_of_a_token_by_mouse_and_by_key(browser: Browser, element: Path) -> None:
    with opened(browser, element) as page:
        details = page.locator("unmask-player .details")
        expect(details).to_be_hidden()
        page.locator(".token[data-position='1']").hover()
        expect(details).to_be_visible()
        assert "id\n18" in details.inner_text() and "77.9 %" in details.inner_text()
        page.mouse.move(0, 0)
        expect(details).to_be_hidden()
        page.locator("unmask-player .stage").focus()
        page.keyboard.press("Shift+ArrowRight")
        expect(details).to_contain_text("position0")
        page.keyboard.press("Shift+ArrowRight")
        expect(details).to_contain_text("position1")
        page.keyboard.press("Escape")
        expect(details).to_be_hidden()


@needs_chromium
def test_colours_are_offered_where_they_were_recorded(browser: Browser, element: Path) -> None:
    with opened(browser, element) as page:
        offered = page.locator("option[id]:not([disabled])")
        values = "all => all.map(one => one.value)"
        names = [name for name in offered.evaluate_all(values) if not name[0].isdigit()]
        assert names == ["step", "block", "logprob", "plain"]
        boxes = page.locator(".token[data-position]")
        fills = "all => all.map(one => one.style.getPropertyValue('--fill'))"
        by_step = boxes.evaluate_all(fills)
        assert by_step[0] == by_step[2] != by_step[1]
        assert by_step[4:] == ["", ""]  # past the stop
        call(page, "player.colour = 'plain';")
        assert set(boxes.evaluate_all(fills)) == {""}
        measured = {
            "confidences": [0.1] * 6,
            "entropies": [0.5] * 6,
            "advantage": -1.5,
            "reward": 0,
        }
        call(page, "player.trajectory = {...player.trajectory, ...given};", measured)
        assert {"confidence", "entropy", "advantage", "reward"} <= set(offered.evaluate_all(values))


@needs_chromium
def test_writing_is_shown_live_and_can_be_played_afterwards(
    browser: Browser, element: Path
) -> None:
    with opened(browser, element) as page:
        given = {"position": 0, "token_id": 7, "text": "Q"}
        begin = {"length": 12, "block_size": 4, "offset": 1, "writes": [given]}
        call(page, "player.begin(given);", begin)
        expect(page.locator(".token.given[data-position]")).to_have_text(["Q"])
        assert canvas(page) == ["Q", "_", "_"]  # one prompt token stands in the first block
        steps = [
            [{"position": 2, "token_id": 1, "text": "<b>", "logprob": -0.5, "confidence": 0.5}],
            [{"position": 1, "token_id": 2, "text": " x"}, {"position": 3, "token_id": 3}],
            [{"position": 2, "token_id": None, "text": None}],  # masked again
            [{"position": 2, "token_id": 9, "text": "y"}],
        ]
        for number, writes in enumerate(steps, start=1):
            call(page, "player.write(given);", {"step": number, "writes": writes})
        expect(counter(page)).to_contain_text("denoising step 4 of 4")
        assert canvas(page)[:4] == ["Q", " x", "y", "3"]
        call(page, "player.step = 1;")
        assert canvas(page)[:4] == ["Q", "_", "<b>", "_"]
        call(page, "player.step = 3; player.end({num_response: 3});")
        assert canvas(page)[:3] == ["Q", " x", "_"]
        call(page, "player.step = 4;")
        assert page.locator(".canvas .token.edited").all_inner_texts() == ["y"]
        assert page.locator(".token.beyond[data-position='3']").count() == 1


@needs_chromium
def test_earlier_writes_and_new_masks_are_played(browser: Browser, element: Path) -> None:
    """Position 1 was written in steps 1 and 2; position 3 in step 1, masked again in step 2, written in step 3."""
    with opened(browser, element) as page:
        sample = page.locator(".sample", has_text="masked again")
        assert sample.is_hidden()
        offered = "all => all.filter(one => !one.disabled).map(one => one.value)"
        assert "writes" not in page.locator("option[id]").evaluate_all(offered)
        call(page, "player.trajectory = given;", shown(revising_record()))
        assert sample.is_visible()
        found: list[tuple[list[str], list[str], list[str]]] = []
        for step in range(4):
            call(page, f"player.step = {step};")
            boxes = page.locator(".canvas .token.edited"), page.locator(".canvas .token.again")
            found.append((canvas(page)[:4], *(box.all_inner_texts() for box in boxes)))
        assert found == [
            (["_"] * 4, [], []),
            (["[14]", "[9]", "[15]", "[15]"], [], []),
            (["[14]", "[18]", "[15]", "_"], ["[18]"], ["[15]"]),
            (["[14]", "[18]", "[15]", "[14]"], ["[18]", "[14]"], []),
        ]
        assert "writes" in page.locator("option[id]").evaluate_all(offered)
        call(page, "player.colour = 'writes';")
        fills = page.locator(".token[data-position]").evaluate_all(
            "all => all.map(one => one.style.getPropertyValue('--fill'))"
        )
        assert [bool(fill) for fill in fills[:4]] == [False, True, False, True]


@needs_chromium
def test_space_plays_on_a_fresh_page_and_after_a_choice(browser: Browser, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", trajectories=[record(1, seed=1), record(2, seed=2)])
    with opened(browser, write_report(run)) as page:
        # Slow until it has been seen to play, which at full speed could be over by then.
        slow, fast = "player.speed = 0.5;", "player.speed = 4;"
        playing = "return player.isPlaying;"
        call(page, slow)
        page.keyboard.press(" ")
        assert call(page, playing)
        call(page, fast)
        expect(counter(page)).to_contain_text("step 3 of 3")
        call(page, slow)
        page.locator("#list .item").nth(1).click()
        page.keyboard.press(" ")
        assert call(page, playing)
        call(page, fast)
        expect(counter(page)).to_contain_text("step 3 of 3")
        page.locator("unmask-player button.first").click()
        call(page, slow)
        page.keyboard.press(" ")
        assert call(page, playing)
        assert page.evaluate("scrollY") == 0


@needs_chromium
def test_responses_stand_side_by_side_on_one_timeline(browser: Browser, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", trajectories=[record(1, seed=s) for s in (1, 2, 3)])
    with opened(browser, write_report(run)) as page:
        page.get_by_role("button", name="3 responses side by side").click()
        expect(page.locator("unmask-player .canvas")).to_have_count(3)
        call(page, "player.step = 1;")
        assert page.locator(".canvas .token.fresh").count() == 3 * 2
        assert "reward 1 · 4 tokens in 3" in page.locator(".caption").first.inner_text()
        page.locator("#list .add").nth(1).click()
        expect(page.locator("unmask-player .canvas")).to_have_count(2)


@needs_chromium
def test_search_and_keys_choose_responses(browser: Browser, tmp_path: Path) -> None:
    traces = [record(1, seed=1, text="alpha"), record(2, seed=2, text="Beta"), record(3, seed=3)]
    with opened(browser, write_report(write_run(tmp_path / "run", trajectories=traces))) as page:
        page.locator("#list .item").first.focus()
        page.keyboard.press("ArrowDown")
        expect(page.locator(".item[aria-current=true]")).to_contain_text("Beta")
        page.locator("#search").fill("ALPHA 2-7")
        assert page.locator("#count").inner_text() == "1 of 3"
        expect(page.locator("#list .item")).to_contain_text(["alpha"])


@needs_chromium
@pytest.mark.parametrize("format", ["jsonl", "svg", "png"])
def test_what_is_shown_can_be_saved(browser: Browser, element: Path, format: str) -> None:
    with opened(browser, element, accept_downloads=True) as page:
        with page.expect_download() as download:
            page.locator("unmask-player select.export").select_option(format)
        assert download.value.suggested_filename == f"trajectory-response.11-step-3.{format}"
        content = Path(download.value.path()).read_bytes()
    if format == "jsonl":
        assert json.loads(content)["ids"] == [14, 18, 15, 14, 20, 0]
    elif format == "svg":
        assert content.startswith(b"<svg") and content.count(b"<text") == 7
    else:
        assert content.startswith(b"\x89PNG")
