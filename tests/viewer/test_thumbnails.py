"""Thumbnails: one for each distinct image of a page, small, and none where there is nothing to show."""

import json
import sys
from base64 import b64decode
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as pillow
from playwright.sync_api import Browser

from tests.seeing import picture
from tests.viewer.browser import needs_chromium, opened
from tests.viewer.page import Page
from tests.viewer.toy_run import HOSTILE, TRAJECTORY, write_run
from unmask.images import Image
from unmask.runs.images import keep_images
from unmask.runs.trajectories import image_record, trajectory_record
from unmask.types import Message, Prompt, PromptImage
from unmask.viewer.notebook import trajectory_html
from unmask.viewer.report import write_report
from unmask.viewer.thumbnails import SIDE, thumbnail, thumbnails
from unmask.viewer.traces import shown
from unmask.viewer.view import write_view

COLOURS = ["red", "blue", "green", "purple", "orange", "black", "white", "gray", "brown", "pink"]


def photo(colour: str = "red", size: tuple[int, int] = (640, 480), kind: str = "PNG") -> Image:
    return Image(f"{colour}.{kind.lower()}", picture(colour, size, kind))


def record(*images: Image, seed: int = 0, text: str = "1+1=") -> dict[str, Any]:
    """Return the record of a question with images in front."""
    prompt = Prompt("sum", seed, (Message.of("user", *images, text),), (5, 6))
    sampling = replace(TRAJECTORY.sampling, seed=seed)
    made = trajectory_record(
        replace(TRAJECTORY, prompt=prompt, sampling=sampling), "2", 1.0, step=1
    )
    return json.loads(json.dumps(made))


def pixels(url: str) -> pillow.Image:
    return pillow.open(BytesIO(b64decode(url.partition(",")[2])))


def test_an_image_is_scaled_down_in_its_shape_and_never_up() -> None:
    url = thumbnail(photo(size=(640, 480), kind="JPEG"))
    assert url and url.startswith("data:image/jpeg;base64,") and len(url) < 4000
    assert pixels(url).size == (SIDE, 120)
    tiny = thumbnail(photo(size=(8, 6)))
    assert tiny and tiny.startswith("data:image/png;base64,")
    assert pixels(tiny).size == (8, 6) and pixels(tiny).getpixel((0, 0)) == (255, 0, 0)
    alpha = BytesIO()
    pillow.new("RGBA", (8, 8), (0, 0, 255, 128)).save(alpha, "PNG")
    assert thumbnail(Image("alpha", alpha.getvalue()))


@pytest.mark.parametrize("data", [b"no image", picture()[:-30], picture()[:20]])
def test_a_damaged_image_has_none(data: bytes) -> None:
    assert thumbnail(Image("a.png", data)) is None


def test_without_pillow_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    image = photo()
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert thumbnail(image) is None


def test_a_page_of_200_trajectories_over_10_images_holds_10(tmp_path: Path) -> None:
    images = [photo(colour) for colour in COLOURS]
    records = [record(images[n % 10], seed=n) for n in range(200)]
    run = write_run(tmp_path / "run", trajectories=records)
    keep_images(run, images)
    write_view(run, tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text())
    assert len(page.data("traces-data")) == 200
    assert page.data("images-data").keys() == {image.digest.hex() for image in images}
    report = Page(write_report(run).read_text())
    assert report.data("images-data").keys() == {image.digest.hex() for image in images}
    assert len(report.source.encode()) < 1_000_000


def test_a_hostile_record_shows_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    made = shown(record(photo()))
    for images in (
        "x",
        [1],
        [{}],
        [{"name": {}, "digest": "../a.png"}],
        [{"name": 1, "digest": 2}],
    ):
        made["messages"][0]["images"] = images
        assert thumbnails(tmp_path, [json.dumps(made)]) == {}


def test_a_notebook_shows_the_images_of_the_prompt() -> None:
    hostile = Image(HOSTILE[1], b"no image")
    messages = (Message.of("user", photo("blue"), hostile, "1+1="),)
    held = tuple(PromptImage(image.digest, 1, image) for image in messages[0].images)
    prompt = Prompt("sum", 7, messages, (5, -1, -2), images=held)
    html = trajectory_html(replace(TRAJECTORY, prompt=prompt), "2", None)
    page = Page(html)
    (image,) = page.all("img")
    assert image.attributes["alt"] == "blue.png"
    assert pixels(image.attributes["src"]).size == (SIDE, 120)
    assert [element.text for element in page.all("code")] == [HOSTILE[1]]


@needs_chromium
def test_the_prompt_of_a_page_shows_its_images(browser: Browser, tmp_path: Path) -> None:
    kept, gone = photo("blue", (8, 8)), photo("green")
    drawing = photo("red", (32, 32))
    drawn = record(seed=2) | {"drawing": image_record(drawing)}
    run = write_run(tmp_path / "run", trajectories=[record(kept, gone, seed=1), drawn])
    keep_images(run, [kept, drawing])
    with opened(browser, write_report(run), "#trajectory=1.1") as page:
        image = page.locator("#prompt img.picture")
        assert image.evaluate("image => [image.naturalWidth, image.offsetWidth, image.alt]") == [
            *(8, 96, "blue.png")
        ]
        assert page.locator("#prompt code").inner_text() == "green.png"
        text = page.locator("#prompt .content").inner_text()
        assert "<image>" not in text and "1+1=" in text
        assert "<image>" not in page.locator("#list").inner_text()
    with opened(browser, tmp_path / "run" / "report.html", "#trajectory=1.2") as page:
        assert page.locator("#prompt img.picture").get_attribute("alt") == "red.png"
        assert page.locator("#prompt .role").all_inner_texts() == ["user", "drawn"]
