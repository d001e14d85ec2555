"""Images of records: where they come from, what is refused, and where they stand in a conversation."""

import os
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as pillow

from tests.data.images import png, write_png
from unmask.data.record_images import RecordImages, cache_root, placed, with_open_parts
from unmask.images import Image, ImageFile
from unmask.types import Message

A, B = Image("a", b"A"), Image("b", b"B")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMASK_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def images(tmp_path: Path) -> RecordImages:
    write_png(tmp_path / "root" / "sub" / "a.png", 1)
    return RecordImages(tmp_path / "root")


def test_equal_images_of_every_source(tmp_path: Path, images: RecordImages) -> None:
    data = png(1)
    sources: list[Any] = [
        "sub/a.png",
        str(tmp_path / "root" / "sub" / "a.png"),
        data,
        f"data:image/png;base64,{b64encode(data).decode()}",
        {"bytes": data, "path": "x.png"},
        {"bytes": None, "path": "sub/a.png"},
    ]
    found = [images.open(source, "images[0]") for source in sources]
    assert len({*found}) == 1 and all(image.data == data for image in found)
    assert [Path(image.name).name for image in found] == [
        *("a.png", "a.png", "images[0]", "images[0]", "images[0] (x.png)", "a.png"),
    ]


def test_images_are_held_by_files_not_by_bytes(tmp_path: Path, images: RecordImages) -> None:
    at_path, of_bytes = images.open("sub/a.png", "image"), images.open(png(2), "image")
    assert at_path.content == ImageFile(tmp_path / "root" / "sub" / "a.png", at_path.digest)
    kept = cache_root() / "images" / of_bytes.digest.hex()
    assert of_bytes.content == ImageFile(kept, of_bytes.digest)
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]
    assert RecordImages(None, is_kept=False).open(png(3), "image").content == png(3)
    assert len([*kept.parent.iterdir()]) == 1
    pillow_image = images.open(pillow.new("RGB", (2, 2)), "image")
    assert isinstance(pillow_image.content, ImageFile)


def test_a_damaged_copy_is_written_again(images: RecordImages) -> None:
    image = images.open(png(2), "image")
    (kept,) = (cache_root() / "images").iterdir()
    kept.write_bytes(b"short")
    with pytest.raises(ValueError, match="changed since the data was read"):
        image.data  # noqa: B018
    assert images.open(png(2), "image").data == png(2)


def test_a_file_that_changes_is_refused_where_it_is_read(
    tmp_path: Path, images: RecordImages
) -> None:
    image = images.open("sub/a.png", "image")
    write_png(tmp_path / "root" / "sub" / "a.png", 9)
    with pytest.raises(ValueError, match=r"a\.png changed since the data was read"):
        image.data  # noqa: B018


@pytest.mark.parametrize("path", ["../secret.png", "sub/../../secret.png", "ABSOLUTE"])
def test_paths_do_not_lead_out_of_the_directory(
    path: str, tmp_path: Path, images: RecordImages
) -> None:
    secret = write_png(tmp_path / "secret.png", 5)
    path = str(secret) if path == "ABSOLUTE" else path
    with pytest.raises(ValueError, match=r"is outside of .*root.*set data\.image_root"):
        images.open(path, "image")
    assert RecordImages(tmp_path).open(str(secret), "image").data == png(5)
    with pytest.raises(ValueError, match=r"is a path, and data\.image_root is not given"):
        RecordImages(None).open(path, "image")


def test_links_inside_of_the_directory_are_followed(tmp_path: Path, images: RecordImages) -> None:
    write_png(tmp_path / "elsewhere" / "b.png", 6)
    (tmp_path / "root" / "linked").symlink_to(tmp_path / "elsewhere")
    assert images.open("linked/b.png", "image").data == png(6)


def test_a_root_that_is_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_png(tmp_path / "a.png", 1)
    monkeypatch.chdir(tmp_path)
    image = RecordImages(Path()).open("a.png", "image")
    assert image.name == "a.png"
    os.chdir("/")
    assert image.data == png(1)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("absent.png", r"absent\.png cannot be read as an image: No such file"),
        ("sub", "sub cannot be read as an image: Is a directory"),
        ("empty.png", r"empty\.png is empty"),
        ("cut.png", r"cut\.png cannot be decoded"),
        ("lying.jpg", r"lying\.jpg holds PNG"),
        ("http://example.org/a.png", "URLs are not fetched"),
        (b"", "image is empty"),
        (b"text", "image is no image of one of the formats"),
        ({"bytes": b"text", "path": "x.png"}, r"image \(x\.png\) is no image"),
        ({"bytes": None, "path": None}, "image is empty: an image has bytes or a path"),
        ("", "image is empty: an image has bytes or a path"),
        (None, "image is empty: an image has bytes or a path"),
        (7, "image: a int is no image"),
        ({"other": 1}, "image: a dict is no image"),
    ],
)
def test_broken_images_are_named(
    source: Any, message: str, tmp_path: Path, images: RecordImages
) -> None:
    root = tmp_path / "root"
    (root / "empty.png").touch()
    (root / "cut.png").write_bytes(png(1, (64, 64))[:-30])
    (root / "lying.jpg").write_bytes(png(1))
    with pytest.raises(ValueError, match=message) as caught:
        images.open(source, "image")
    assert "\n" not in str(caught.value)


def test_the_first_column_that_has_images_is_read(images: RecordImages) -> None:
    record = {"images": None, "image": "sub/a.png", "image_abs_path": "/of/another/machine.png"}
    (found,) = images.of_column(record)
    assert found.data == png(1)
    assert images.of_column({"images": [], "image": None}) == []
    assert len(images.of_column({"images": ["sub/a.png", png(2)]})) == 2
    assert len(images.of_column({"image_path": "sub/a.png"})) == 1
    with pytest.raises(ValueError, match="'image_token_ids' without 'image'"):
        images.of_column({"image_token_ids": [1, 2]})


def test_parts_without_a_source_take_from_the_column(images: RecordImages) -> None:
    ask = [{"type": "image"}, {"type": "text", "text": "one"}]
    own = [{"type": "image", "image": {"bytes": png(3), "path": None}}]
    turns = [{"role": "user", "content": ask}, {"role": "user", "content": [*ask, *own]}]
    record = {"prompt": turns, "images": [png(1), png(2)]}
    opened, left = with_open_parts(record, images)
    first, second = (turn["content"] for turn in opened["prompt"])
    assert not left
    assert [part.data for part in first if isinstance(part, Image)] == [png(1)]
    assert [part.data for part in second if isinstance(part, Image)] == [png(2), png(3)]
    assert first[1] == "one"
    with pytest.raises(ValueError, match=r"prompt\[1\]\[0\]: an image part without .*no image"):
        with_open_parts({**record, "images": [png(1)]}, images)
    with pytest.raises(ValueError, match=r"no part of type 'image' is left for images\[2\]"):
        with_open_parts({**record, "images": [png(1), png(2), png(3)]}, images)


def test_images_stand_in_the_places_of_markers() -> None:
    turns = [Message("user", "<image>\none <image>"), Message("assistant", "1")]
    found = placed(turns, [A, B])
    assert found == (Message("user", "<image>\none <image>", (A, B)), turns[1])
    assert placed(turns[1:], []) == (turns[1],)
    with pytest.raises(ValueError, match="begins with <image>, and the record has no image"):
        placed(turns, [])
    assert placed([Message("user", "<image> is a tag")], []) == (
        Message("user", "<image> is a tag"),
    )
    for count in (1, 3):
        with pytest.raises(ValueError, match=f"have 2 <image>, and the record {count} images"):
            placed(turns, [A] * count)


def test_without_a_marker_images_stand_in_front() -> None:
    turns = [Message("system", "short"), Message("user", "one"), Message("user", "two")]
    found = placed(turns, [A, B])
    assert found == (turns[0], Message("user", "<image>\n<image>\none", (A, B)), turns[2])
    with pytest.raises(ValueError, match="a: there is no turn of the user"):
        placed(turns[:1], [A])


def test_later_turns_have_their_own_images() -> None:
    turns = [Message("user", "<image>\none"), Message("user", "<image>\ntwo", (B,))]
    assert placed(turns, [A]) == (Message("user", "<image>\none", (A,)), turns[1])
