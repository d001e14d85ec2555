"""Contents of messages in parts."""

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from unmask.images import Image, image_from
from unmask.message_parts import message_parts
from unmask.types import Message

A, B = Image("a", b"A"), Image("b", b"B")
URL = "data:image/png;base64," + base64.b64encode(b"A").decode()


def test_a_text_is_one_part() -> None:
    assert message_parts("hello", "content") == ("hello",)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": URL}},
        {"type": "image_url", "image_url": URL},
        {"type": "image", "image": b"A"},
        {"type": "image", "base64": URL.partition(",")[2]},
        {"type": "image", "url": URL},
        {"type": "image", "image": A, "path": None},
    ],
)
def test_sources_of_an_image(part: dict[str, Any]) -> None:
    parts = message_parts([{"type": "text", "text": "see "}, part], "content")
    assert parts == ("see ", A)
    assert Message.of("user", *parts) == Message("user", "see <image>\n", (A,))


def test_a_path(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"A")
    part = {"type": "image", "path": str(tmp_path / "a.png")}
    assert message_parts([part], "content") == (A,)


def test_parts_without_a_source_take_the_images_of_the_record() -> None:
    parts = [{"type": "image"}, {"type": "text", "text": "and"}, {"type": "image"}]
    assert message_parts(parts, "content", images=(A, B)) == (A, "and", B)


def test_an_image_of_pillow_keeps_its_pixels() -> None:
    pillow = pytest.importorskip("PIL.Image")
    picture = pillow.new("RGB", (3, 2), (1, 2, 3))
    written = pillow.open(BytesIO(image_from(picture).data))
    assert (written.size, written.tobytes()) == (picture.size, picture.tobytes())


def test_an_image_of_pillow_that_no_png_holds_is_refused() -> None:
    pillow = pytest.importorskip("PIL.Image")
    with pytest.raises(ValueError, match="inks cannot be stored as PNG: cannot write mode CMYK"):
        image_from(pillow.new("CMYK", (3, 2)), "inks")


@pytest.mark.parametrize(
    ("content", "images", "reason"),
    [
        (None, (), "content: must be a text or a list of parts, found None"),
        ([], (), "content: must be a text or a list of parts"),
        ([{"type": "audio"}], (), r"content\[0\]: must be a part of type text, image_url or image"),
        ([{"type": "text"}], (), r"content\[0\]: must be a part of type text"),
        ([{"type": "image"}], (), r"content\[0\]: an image part without image, path, url, base64"),
        ([{"type": "text", "text": ""}], (A,), "content: no part of type 'image' is left for a"),
        (
            [{"type": "image", "path": "a", "url": "b"}],
            (),
            r"content\[0\]: has path and url: must have one of them",
        ),
        ([{"type": "image", "image": 3}], (), r"content\[0\]: a int is no image"),
        ([{"type": "image", "url": "https://a/b.png"}], (), "URLs are not fetched"),
    ],
)
def test_what_is_refused(content: Any, images: tuple[Image, ...], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        message_parts(content, "content", images=images)
