"""Images as encoded bytes: where they come from, their digests, their markers."""

from base64 import b64encode
from io import BytesIO
from pathlib import Path

import pytest

from unmask.images import (
    MOST_BYTES,
    Image,
    ImageFile,
    check_markers,
    data_url,
    digest_of,
    image_from,
    media_type,
)


def test_a_path_bytes_and_a_data_url_give_equal_images(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"content")
    url = f"data:image/png;base64,{b64encode(b'content').decode()}"
    images = [image_from(source) for source in (tmp_path / "a.png", b"content", url)]
    assert images[0] == images[1] == images[2]
    assert images[0].name == str(tmp_path / "a.png") and images[1].name == "image"
    assert len({image.digest for image in images}) == 1
    assert image_from(b"other").digest != images[0].digest


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("http://example.org/a.png", "http://example.org/a.png: URLs are not fetched"),
        ("https://example.org/a.png", "URLs are not fetched"),
        ("data:image/png,abc", "image: the data URL must be data:image/...;base64,..."),
        ("data:image/png;base64", "the data URL must be"),
        ("data:image/png;base64,a$b=", "image: the data URL holds no base64"),
        ("data:image/png;base64,", "image is empty"),
        ("no/such.png", "no/such.png cannot be read as an image: No such file"),
        (".", ". cannot be read as an image: Is a directory"),
        (b"", "image is empty"),
    ],
)
def test_refused_sources(source: str | bytes, message: str) -> None:
    with pytest.raises(ValueError) as raised:
        image_from(source)
    assert str(raised.value).startswith(message) or message in str(raised.value)


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(ValueError, match=r"a\.png is empty"):
        image_from(tmp_path / "a.png")


def test_files_beyond_the_limit_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(ValueError, match=r"a\.png has more than the 64 MiB"):
        image_from(tmp_path / "a.png")
    with pytest.raises(ValueError, match="image has more than the 64 MiB"):
        image_from("data:image/png;base64," + "A" * (MOST_BYTES * 4 // 3 + 8))


def test_markers_are_as_many_as_images() -> None:
    check_markers("<image> and <image>", 2)
    with pytest.raises(ValueError, match="the text has 2 <image> for 1 images"):
        check_markers("<image> and <image>", 1)
    with pytest.raises(ValueError, match="the text has 0 <image> for 1 images"):
        check_markers("none", 1)


def test_the_bytes_are_not_printed() -> None:
    assert repr(Image("a.png", b"content")) == "Image(name='a.png')"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n...", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"RIFF\n\0\0\0WEBPVP8 ", "image/webp"),
        (b"GIF89a", "image/gif"),
        (b"BM1234", "image/bmp"),
    ],
)
def test_a_data_url_holds_the_file_and_the_type_of_its_content(data: bytes, kind: str) -> None:
    image = Image("lying.txt", data)
    assert data_url(image).startswith(f"data:{kind};base64,")
    assert image_from(data_url(image)) == image


def test_the_type_of_a_real_file_is_found_and_others_are_refused() -> None:
    from PIL import Image as pillow

    for kind in ("png", "jpeg", "webp", "gif", "bmp"):
        file = BytesIO()
        pillow.new("RGB", (3, 2)).save(file, kind)
        assert media_type(image_from(file.getvalue())) == f"image/{kind}"
    with pytest.raises(ValueError, match=r"^a.tiff is no image of the formats PNG, JPEG"):
        media_type(Image("a.tiff", b"II*\0"))


def test_an_image_is_read_from_its_file_where_it_is_used(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"content")
    image = Image("a.png", ImageFile(path, digest_of(b"content")))
    same = Image("b.png", b"content")
    assert image == same and hash(image) == hash(same) and image != Image("a.png", b"other")
    assert image.data == b"content" and image.digest == same.digest
    assert b"content" not in vars(image).values()  # not kept
    path.write_bytes(b"other")
    with pytest.raises(ValueError, match=r"a\.png changed since the data was read"):
        image.data  # noqa: B018
    path.unlink()
    with pytest.raises(ValueError, match=r"a\.png cannot be read as an image: No such file"):
        image.data  # noqa: B018
