"""Prompts of words, files and stdin."""

import gzip
import io
import json
import sys
from pathlib import Path

import pytest

from tests.seeing import NUM_VECTORS, picture, seeing_llm
from unmask.cli.prompts import Asked, read_prompts, tokenized
from unmask.sampling_params import SamplingParams
from unmask.types import Image, Message

TURNS = [{"role": "user", "content": "1+"}]


def text(content: str) -> tuple[tuple[Message, ...], bool]:
    """Return what is read of a prompt that is a text."""
    return (Message("user", content),), True


def test_words_are_prompts_with_their_number() -> None:
    assert read_prompts(Asked(["a", ""])) == [("prompt 1", *text("a")), ("prompt 2", *text(""))]


@pytest.mark.parametrize("name", ["p.jsonl", "p.json", "p.jsonl.gz", "p", "p.txt", "-"])
def test_the_name_or_the_first_line_decides_between_text_and_json(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = f'\ufeff\n{{"prompt": " a\\nb", "id": 1}}\n\n{json.dumps({"messages": TURNS})}'
    data = content.encode()
    path = Path("-") if name == "-" else tmp_path / name
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    if name != "-":
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    place = "stdin" if name == "-" else f"--from = {path}"
    assert read_prompts(Asked(source=path)) == [
        (f"{place}, line 2", *text(" a\nb")),
        (f"{place}, line 4", (Message("user", "1+"),), False),
    ]


def test_lines_of_a_text_are_kept_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_bytes("  a \u2028b\r\n\n[1]\n".encode())
    place = f"--from = {path}"
    assert read_prompts(Asked(source=path)) == [
        (f"{place}, line 1", *text("  a \u2028b")),
        (f"{place}, line 3", *text("[1]")),
    ]


def test_a_json_list_is_read_item_by_item(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text('[\n{"prompt": "a"}, {"prompt": "b"}]')
    assert [found[1:] for found in read_prompts(Asked(source=path))] == [text("a"), text("b")]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Write red.png and blue.png into a folder and return it."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for colour in ("red", "blue"):
        (folder / f"{colour}.png").write_bytes(picture(colour))
    return folder


def test_images_of_the_command_line_stand_at_the_markers_or_in_front(photos: Path) -> None:
    red, blue = (Image(f"{colour}.png", picture(colour)) for colour in ("red", "blue"))
    files = [photos / "red.png", photos / "blue.png"]
    found = read_prompts(Asked(["1+", "<image>1<image>+"], images=files))
    assert [messages for _, messages, _ in found] == [
        (Message("user", "<image>\n<image>\n1+", (red, blue)),),
        (Message("user", "<image>1<image>+", (red, blue)),),
    ]
    with pytest.raises(ValueError, match="the text has 1 <image> for 2 images"):
        read_prompts(Asked(["<image>"], images=files))
    with pytest.raises(ValueError, match=r"gone\.png cannot be read as an image: No such file"):
        read_prompts(Asked(["1"], images=[photos / "gone.png"]))
    with pytest.raises(ValueError, match="--image: goes with prompts as words"):
        read_prompts(Asked(source=photos, images=files))


def test_a_line_has_images_in_a_column_or_in_parts(photos: Path) -> None:
    red, blue = (Image(f"{colour}.png", picture(colour)) for colour in ("red", "blue"))
    part = {"type": "image", "path": "red.png"}
    lines = [
        {"prompt": "1+", "image": "red.png"},
        {"prompt": "1<image>+<image>", "images": ["red.png", "blue.png"]},
        {"messages": [{"role": "user", "content": [part, {"type": "text", "text": "1+"}]}]},
        {"messages": TURNS, "image": "blue.png"},
    ]
    path = photos / "p.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    assert [found[1:] for found in read_prompts(Asked(source=path))] == [
        ((Message("user", "<image>\n1+", (red,)),), True),
        ((Message("user", "1<image>+<image>", (red, blue)),), True),
        ((Message("user", "<image>\n1+", (red,)),), False),
        ((Message("user", "<image>\n1+", (blue,)),), False),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"prompt": "1", "image": "../p.jsonl"}, "is outside of .*--image-root"),
        ({"prompt": "1", "image": "/etc/hostname"}, "is outside of .*--image-root"),
        ({"prompt": "1", "image": "gone.png"}, r"gone\.png cannot be read"),
        ({"prompt": "1", "image": "p.jsonl"}, r"p\.jsonl is no image of one of the formats"),
        ({"prompt": "<image>", "images": ["red.png"] * 2}, "has 1 <image> for 2 images"),
        ({"messages": TURNS, "prompt": "1"}, "must be .*, not both"),
        ({"messages": "1"}, "messages must be a list of messages"),
        ({"prompt": 1}, "prompt must be a text"),
    ],
)
def test_a_wrong_line_is_named(line: dict[str, object], reason: str, photos: Path) -> None:
    path = photos / "p.jsonl"
    path.write_text(f'{{"prompt": "1"}}\n{json.dumps(line)}')
    with pytest.raises(ValueError, match=reason) as caught:
        read_prompts(Asked(source=path))
    assert str(caught.value).startswith(f"--from = {path}, line 2: ")
    assert "\n" not in str(caught.value)


def test_a_prompt_with_images_is_read_with_a_template_and_without(
    photos: Path, tmp_path: Path
) -> None:
    llm, short = seeing_llm(tmp_path / "model"), SamplingParams(max_tokens=4)
    found = read_prompts(Asked(["1+"], images=[photos / "red.png"]))
    for uses_template in (True, False):
        (prompt,) = tokenized(found, llm, short, uses_template)
        assert prompt.token_ids == (*range(-1, -1 - NUM_VECTORS, -1), 3, 12)
        assert [image.source for image in prompt.images] == [Image("red.png", picture())]
    broken = [("prompt 1", (Message.of("user", Image("a.png", b"broken"), "1"),), True)]
    with pytest.raises(ValueError, match=r"prompt 1: a\.png is no image"):
        tokenized(broken, llm, short, True)


def test_a_url_of_an_image_is_named_whole() -> None:
    with pytest.raises(ValueError, match=r"https://host/a\.png: URLs are not fetched"):
        read_prompts(Asked(["a"], images=["https://host/a.png"]))
