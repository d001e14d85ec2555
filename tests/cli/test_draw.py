"""`unmask draw`: images of texts as files."""

from pathlib import Path

import pytest
from PIL import Image as pillow

from tests.cli.test_main import run
from tests.models.toy import GOLDEN
from unmask.checkpoints.random_init import init
from unmask.cli.draw import image_files
from unmask.engine.llm import LLM
from unmask.presets import preset

CODEC = str(GOLDEN / "magvitv2")
QUICK = ("--steps", "2", "--image-codec", CODEC)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("mmada") / "model"
    init(directory, "mmada", alphabet="abcdefgh ")
    return str(directory)


def test_images_are_written_one_file_each(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "egg.png"
    options = ("--n", "2", "--seed", "5", "--guidance", "1.5", *QUICK)
    assert run(monkeypatch, "draw", model, "a bad egg", "a cafe", "--out", str(out), *options) == 0
    names = [f"egg-{number}.png" for number in (1, 2, 3, 4)]
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [str(tmp_path / name) for name in names]
    assert "Drawing 4/4" in shown.err
    sampling = preset("mmada_image", n=2, seed=5, guidance=1.5, denoising_steps=2)
    expected = LLM(model, image_codec=CODEC).draw(["a bad egg", "a cafe"], sampling)
    assert sorted(path.name for path in tmp_path.iterdir()) == names  # nothing unfinished
    for name, drawing in zip(names, expected, strict=True):
        with pillow.open(tmp_path / name) as picture:
            assert drawing.picture is not None and picture.format == "PNG"
            assert picture.tobytes() == drawing.picture.tobytes()


def test_one_image_has_the_name_that_is_given(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "egg.jpg"
    assert run(monkeypatch, "draw", model, "a bad egg", "--out", str(out), *QUICK) == 0
    with pillow.open(out) as picture:
        assert (picture.format, picture.size) == ("JPEG", (16, 16))
    assert run(monkeypatch, "draw", model, "a bad egg", "--out", str(out), *QUICK) == 2


def test_names_are_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    assert image_files(tmp_path / "a.png", 1) == [tmp_path / "a.png"]
    (tmp_path / "a-2.png").touch()
    with pytest.raises(ValueError, match=r"a-2\.png: exists"):
        image_files(tmp_path / "a.png", 2)
    with pytest.raises(ValueError, match=r"its extension must be one of \.png, \.jpg"):
        image_files(tmp_path / "a.tif", 1)
    with pytest.raises(ValueError, match="there is no directory"):
        image_files(tmp_path / "b" / "a.png", 1)


def test_a_text_model_and_a_wrong_codec_are_refused(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text_model = tmp_path / "llada"
    init(text_model, "llada")
    words = ("a", "--out", str(tmp_path / "a.png"))
    assert run(monkeypatch, "draw", str(text_model), *words, *QUICK) == 2
    assert "image_codec" in capsys.readouterr().err
    nowhere = ("--image-codec", str(tmp_path / "nowhere"))
    assert run(monkeypatch, "draw", model, *words, *nowhere) == 2
    assert "nowhere" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.png*"))
