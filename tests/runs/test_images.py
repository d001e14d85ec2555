"""Images of records: each distinct one is kept once, and found again as long as its content is the same."""

from pathlib import Path

import pytest

from tests.seeing import picture
from unmask.images import Image
from unmask.runs.images import find_image, keep_images


def test_each_distinct_image_is_kept_once(tmp_path: Path) -> None:
    red, again = Image("a.png", picture()), Image("b.png", picture())
    blue = Image("c.jpg", picture("blue", kind="JPEG"))
    keep_images(tmp_path, [red, again, blue])
    keep_images(tmp_path, [blue])
    names = {f"{red.digest.hex()}.png", f"{blue.digest.hex()}.jpeg"}
    assert {path.name for path in (tmp_path / "images").iterdir()} == names
    found = find_image(tmp_path, blue.digest.hex(), "c.jpg")
    assert found == blue and found.name == "c.jpg"


def test_without_images_there_is_no_folder(tmp_path: Path) -> None:
    keep_images(tmp_path, [])
    assert not [*tmp_path.iterdir()]


def test_an_image_that_was_not_kept_is_found_at_its_own_path(tmp_path: Path) -> None:
    path, digest = tmp_path / "a.png", Image("a", picture()).digest.hex()
    path.write_bytes(picture())
    assert find_image(tmp_path / "elsewhere", digest, str(path)) == Image("a", picture())
    path.write_bytes(picture("blue"))
    assert find_image(tmp_path, digest, str(path)) is None, "its content is another one"


@pytest.mark.parametrize(
    "name", ["gone.png", "", "messages[0].content[0]", "a\0b", "w" * 5000, "."]
)
def test_an_image_that_is_gone_is_none(name: str, tmp_path: Path) -> None:
    assert find_image(tmp_path, "0" * 32, name) is None


def test_a_digest_is_no_path(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "images").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(picture())
    assert find_image(run, "../../secret", "") is None
    (run / "images" / f"{'0' * 32}.png").write_bytes(picture())
    assert find_image(run, "0" * 32, "") is None, "a file with another content"
