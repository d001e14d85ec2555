"""In a real browser the charts are drawn, trajectories play, and hostile text is shown as text."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.viewer.browser import needs_chromium, opened
from tests.viewer.toy_run import HOSTILE, hostile_record, record, write_lines, write_run
from unmask.viewer.comparison import write_comparison
from unmask.viewer.report import write_report

pytestmark = needs_chromium


def classes(page: Page) -> list[set[str]]:
    """Return the classes of each token of the canvas."""
    found = page.locator("unmask-player .token[data-position]")
    return [set(text.split()) for text in found.evaluate_all("all => all.map(e => e.className)")]


def with_class(page: Page, name: str) -> list[int]:
    return [position for position, found in enumerate(classes(page)) if name in found]


@pytest.mark.parametrize("kind", ["rl", "eval"])
def test_every_chart_is_drawn_with_its_last_values(
    browser: Browser, tmp_path: Path, kind: str
) -> None:
    run = write_run(tmp_path / "run", num_steps=60, kind=kind)
    with opened(browser, write_report(run)) as page:
        assert page.locator("html[data-report=ready]").count() == 1
        figures = page.locator("figure.chart")
        assert figures.count() > 1
        assert page.locator("figure.chart .u-over").count() == figures.count()
        words = " ".join(page.locator("figure.chart .u-legend").all_inner_texts()).split()
        text = " ".join(words)
        if kind == "rl":
            assert "at step 60" in text and "held out 100 %" in text and "rollouts 1 " in text
            assert page.locator("#smoothing").is_checked()
        else:
            assert "dynamic 75 % at 1.4" in text and "others 314 right 954" in text


def test_charts_of_several_runs_are_drawn(browser: Browser, tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, num_steps=n) for name, n in (("a", 60), ("b", 20))]
    with opened(browser, write_comparison(runs, tmp_path / "page.html")) as page:
        figures = page.locator("section figure.chart")
        assert page.locator("section .u-over").count() == figures.count() > 3
        legend = " ".join(figures.first.locator(".u-legend").inner_text().split())
        assert legend == "at each end a 100 % b 100 %"


def test_trajectory_is_shown_at_the_step_of_the_address(browser: Browser, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", trajectories=[record(1, seed=1), record(2, seed=2)])
    place = "#trajectory=1.1&denoising-step=2"
    with opened(browser, write_report(run), place, moves=True) as page:
        counter = page.locator("unmask-player .counter")
        expect(counter).to_have_text("denoising step 2 of 3 · 3 of 6 revealed · 1 now")
        assert with_class(page, "veiled") == [3, 4, 5]
        assert with_class(page, "fresh") == [1]
        assert with_class(page, "beyond") == [4, 5]
        # The first block holds the prompt's last two tokens and the first two of the response.
        blocks = page.locator("unmask-player .canvas .block")
        assert [block.locator(".token").count() for block in blocks.all()] == [4, 4]
        assert blocks.nth(0).locator("[data-prompt]").count() == 2
        names = [block.get_attribute("class") for block in page.locator(".canvas .block").all()]
        assert names == ["block done", "block open"]


def test_hostile_text_is_shown_and_not_run(browser: Browser, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", num_steps=2, trajectories=[hostile_record()])
    names = {f"reward_{text}": 1.0 for text in HOSTILE[:2]}
    write_lines(run / "metrics.jsonl", [{"step": 1, **names}])
    with opened(browser, write_report(run)) as page:
        assert page.title() == "Reinforcement learning on chain_sum"
        assert page.locator("img").count() == 0
        labels = page.locator("figure .u-label").all_inner_texts()
        assert labels[1:] == sorted(HOSTILE[:2])
        text = page.locator("unmask-player .canvas").inner_text()
        assert "</script><script>document.title='owned'</script>" in text
        assert "U+2028" in text and "U+202E" in text and "w" * 400 in text
        assert "\u202e" not in text


@pytest.mark.parametrize(
    ("kind", "width", "scheme"),
    [("rl", 390, "light"), ("rl", 1280, "dark"), ("eval", 390, "dark"), ("eval", 1280, "light")],
)
def test_report_fits_the_screen_with_its_player_above_the_fold(
    browser: Browser, tmp_path: Path, kind: str, width: int, scheme: str
) -> None:
    run = write_run(tmp_path / "run", kind=kind, trajectories=[record()])
    size = {"width": width, "height": 900}
    with opened(browser, write_report(run), viewport=size, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == width
        expect(page.locator("unmask-player .canvas")).to_be_in_viewport()
        tops = page.locator(".tile dd:nth-of-type(1)").evaluate_all(
            "all => all.map(one => one.getBoundingClientRect().top)"
        )
        columns = 2 if width == 390 else len(tops)  # numbers of a row stand at one height
        rows = [tops[at : at + columns] for at in range(0, len(tops), columns)]
        assert tops and all(max(row) - min(row) < 1 for row in rows)
