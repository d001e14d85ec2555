"""In a real browser the charts are drawn, the player works, and hostile text is shown as text."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.viewer.toy_run import HOSTILE, hostile_record, record, write_lines, write_run
from unmask.viewer.report import write_report

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")


def document(report: Path, profile: Path, place: str = "") -> str:
    """Return the document of a page after its script has run in a browser."""
    assert CHROMIUM is not None
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    options += ["--no-first-run", "--disable-background-networking", f"--user-data-dir={profile}"]
    command = [CHROMIUM, *options, "--dump-dom", f"{report.as_uri()}{place}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def boxes(page: str) -> list[tuple[str, set[str]]]:
    """Return position and classes of each token of the canvas."""
    found = re.findall(r'<span class="(token[^"]*)" data-position="(\d+)"', page)
    return [(position, set(classes.split())) for classes, position in found]


@pytest.mark.parametrize("kind", ["rl", "eval"])
def test_every_chart_is_drawn_with_its_last_values(tmp_path: Path, kind: str) -> None:
    page = document(write_report(write_run(tmp_path / "run", num_steps=60, kind=kind)), tmp_path)
    assert 'data-report="ready"' in page
    figures = [part.split("</figure>")[0] for part in page.split("<figure")[1:]]
    charts = [figure for figure in figures if "data-chart" in figure]
    assert charts and all("<canvas" in chart and "u-legend" in chart for chart in charts)
    legend = [re.sub(r"<[^>]+>", " ", chart.split('class="plot"')[0]) for chart in charts]
    words = " ".join(" ".join(legend).split())
    if kind == "rl":
        assert "step 60" in words and "held out 100 %" in words and "rollouts 1 " in words
        assert 'id="smoothing"' in page
    else:
        assert "dynamic 75 % at 1.4" in words and "tokens all others 314 right 954" in words


def test_trajectory_is_shown_at_the_step_of_the_address(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", trajectories=[record(1, seed=1), record(2, seed=2)])
    page = document(write_report(run), tmp_path, "#trajectory=1.1&denoising-step=2")
    assert 'data-report="ready"' in page
    assert "denoising step 2 of 3 · 3 of 6 revealed · 1 now" in page
    tokens = boxes(page)
    assert [position for position, _ in tokens] == ["0", "1", "2", "3", "4", "5"]
    assert [position for position, classes in tokens if "veiled" in classes] == ["3", "4", "5"]
    assert [position for position, classes in tokens if "fresh" in classes] == ["1"]
    assert [position for position, classes in tokens if "beyond" in classes] == ["4", "5"]
    # The first block holds the prompt's last two tokens and the first two of the response.
    canvas = page.split('id="canvas"')[1].split('id="counter"')[0]
    blocks = canvas.split('<span class="block">')[1:]
    assert [len(re.findall('class="token', block)) for block in blocks] == [4, 4]
    assert len(re.findall("data-prompt", blocks[0])) == 2


def test_hostile_text_is_shown_and_not_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", num_steps=2, trajectories=[hostile_record()])
    names = {f"reward_{text}": 1.0 for text in HOSTILE[:2]}
    write_lines(run / "metrics.jsonl", [{"step": 1, **names}])
    report = write_report(run)
    page = document(report, tmp_path)
    assert 'data-report="ready"' in page
    assert "<title>Reinforcement learning on chain_sum</title>" in page
    assert "owned'" in page and "<img" not in page
    assert page.count("<script") == report.read_text().count("<script")
    labels = re.findall('<div class="u-label">(.*?)</div>', page)
    assert labels[1:] == [
        text.replace("<", "&lt;").replace(">", "&gt;") for text in sorted(HOSTILE[:2])
    ]
    canvas = page.split('id="canvas"')[1].split('id="counter"')[0]
    assert "&lt;/script&gt;&lt;script&gt;document.title='owned'&lt;/script&gt;" in canvas
    assert "U+2028" in canvas and "U+202E" in canvas and "w" * 400 in canvas
    assert "\u202e" not in canvas
