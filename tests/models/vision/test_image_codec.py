"""Only images whose pixels reach a model as they are in the file are decoded."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pillow

from unmask.images import Image, image_from
from unmask.models.vision.image_codec import FORMATS, decode_image

COLOURS = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)


def encoded(picture: pillow.Image, kind: str, **options: object) -> bytes:
    file = BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def png(width: int, height: int, depth: int = 8, colour: int = 2, rows: bytes = b"") -> bytes:
    """Return a PNG file with a header of any content."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_a_stored_picture_comes_back_pixel_for_pixel() -> None:
    picture = decode_image(image_from(pillow.fromarray(COLOURS)))
    assert picture.mode == "RGB" and np.array_equal(np.array(picture), COLOURS)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_other_modes_of_8_bits_become_rgb(mode: str) -> None:
    picture = pillow.fromarray(COLOURS).convert(mode)
    found = decode_image(Image("a.png", encoded(picture, "PNG")))
    assert np.array_equal(np.array(found), np.array(picture.convert("RGB")))


def test_transparency_is_dropped(recwarn: pytest.WarningsRecorder) -> None:
    for picture in (pillow.fromarray(COLOURS).convert("P"), pillow.fromarray(COLOURS)):
        transparency = bytes(range(200)) if picture.mode == "P" else tuple(COLOURS[0, 0].tolist())
        image = Image("a.png", encoded(picture, "PNG", transparency=transparency))
        assert np.array_equal(np.array(decode_image(image)), np.array(picture.convert("RGB")))
    assert not recwarn.list


@pytest.mark.parametrize("kind", FORMATS)
def test_formats(kind: str) -> None:
    for suffix in FORMATS[kind]:
        image = Image(f"a{suffix}", encoded(pillow.fromarray(COLOURS), kind))
        assert decode_image(image).size == (12, 9)


def test_a_photograph_with_a_preview_is_its_first_image() -> None:
    picture = pillow.fromarray(COLOURS)
    preview = picture.resize((4, 3))
    data = encoded(picture, "MPO", save_all=True, append_images=[preview])
    assert decode_image(Image("a.jpg", data)).size == (12, 9)


def broken_files() -> dict[str, tuple[str, bytes, str]]:
    picture = pillow.fromarray(COLOURS)
    large = pillow.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    wide = b"".join(b"\0" + bytes(6 * 8) for _ in range(8))
    return {
        "CMYK": ("a.jpg", encoded(picture.convert("CMYK"), "JPEG"), "has colours of mode CMYK"),
        "16-bit grey": (
            "a.png",
            encoded(pillow.fromarray(COLOURS[..., 0].astype(np.uint16) * 257), "PNG"),
            "has 16 bits per channel",
        ),
        "16-bit RGB": ("a.png", png(8, 8, 16, 2, wide), "has 16 bits per channel"),
        "16-bit grey with alpha": ("a.png", png(8, 8, 16, 4, wide), "has 16 bits per channel"),
        "animated GIF": (
            "a.gif",
            encoded(
                picture, "GIF", save_all=True, append_images=[picture.transpose(pillow.ROTATE_180)]
            ),
            "is animated",
        ),
        "animated WebP": (
            "a.webp",
            encoded(
                picture, "WEBP", save_all=True, append_images=[picture.transpose(pillow.ROTATE_180)]
            ),
            "is animated",
        ),
        "100 megapixels": ("a.png", png(10_000, 10_000), "has 10000 x 10000 pixels"),
        "200 megapixels": ("a.png", png(20_000, 10_000), "has too many pixels"),
        "a long side": ("a.png", png(10_001, 100), "has 10001 x 100 pixels"),
        "a thin line": ("a.png", png(201, 1), "has 201 x 1 pixels"),
        "other content": ("a.png", encoded(picture, "JPEG"), "holds JPEG: rename it to .jpg"),
        "text": ("a.png", b"no image at all", "is no image of one of the formats PNG, JPEG"),
        "another format": ("a.tiff", encoded(picture, "TIFF"), "is no image of one of the formats"),
        "half a PNG": ("a.png", encoded(large, "PNG")[:2000], "cannot be decoded"),
        "half a JPEG": ("a.jpg", encoded(large, "JPEG")[:1000], "cannot be decoded"),
        "half a WebP": ("a.webp", encoded(large, "WEBP")[:1000], "cannot be decoded"),
        "half a BMP": ("a.bmp", encoded(large, "BMP")[:1000], "cannot be decoded"),
        "half a GIF": ("a.gif", encoded(large, "GIF")[:1500], "cannot be decoded"),
        "a header without pixels": ("a.png", png(8, 8), "cannot be decoded"),
    }


@pytest.mark.parametrize("case", broken_files())
def test_refused_with_one_sentence_that_names_the_file(
    tmp_path: Path, case: str, recwarn: pytest.WarningsRecorder
) -> None:
    name, data, message = broken_files()[case]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError) as raised:
        decode_image(image_from(tmp_path / name))
    assert str(raised.value).startswith(f"{tmp_path / name} {message}")
    assert "\n" not in str(raised.value) and not recwarn.list


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_files_are_decoded_or_refused_by_name(kind: str) -> None:
    """Bytes changed and cut off: an RGB image, or one sentence."""
    random = np.random.default_rng(0)
    whole = np.frombuffer(encoded(pillow.fromarray(COLOURS), kind), dtype=np.uint8)
    for _ in range(200):
        data = whole[: random.integers(1, len(whole) + 1)].copy()
        for place in random.integers(0, len(data), random.integers(0, 4)):
            data[place] = random.integers(0, 256)
        name = f"a{FORMATS[kind][0]}"
        try:
            picture = decode_image(Image(name, data.tobytes()))
        except ValueError as error:
            assert str(error).startswith(name) and "\n" not in str(error)
        else:
            assert picture.mode == "RGB"
