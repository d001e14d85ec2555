"""A CLIP model: vectors equal those of transformers, whatever shares a batch, and other directories are refused."""

import json
from io import BytesIO
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.checkpoints.toy_clip import MOST_TOKENS, png, write_clip
from unmask.checkpoints.clip_model import ClipModel, load_clip
from unmask.images import Image

TEXTS = ("a cat", "two Dogs!", "", "a caf\u00e9 \U0001f408", "  a\n cat ")


def load(place: Path, batch_size: int = 64) -> ClipModel:
    return load_clip(place, torch.device("cpu"), torch.float32, batch_size, "reward.path")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("clip")
    write_clip(place)
    return place


def test_cosines_are_those_of_transformers(tmp_path: Path) -> None:
    from PIL import Image as pillow
    from transformers import CLIPImageProcessorPil, CLIPProcessor, CLIPTokenizer

    theirs = write_clip(tmp_path)
    processor = CLIPProcessor(
        CLIPImageProcessorPil.from_pretrained(tmp_path), CLIPTokenizer.from_pretrained(tmp_path)
    )
    files = [png(seed, width, 24) for seed, width in enumerate((24, 40, 64))]
    pictures = [pillow.open(BytesIO(file)) for file in files]
    inputs = processor(text=list(TEXTS), images=pictures, return_tensors="pt", padding=True)
    with torch.no_grad():
        wanted = theirs(**inputs).logits_per_image / theirs.logit_scale.exp()  # (images, texts)
    assert wanted.std() > 0.05
    for batch_size in (1, 2, 64):
        ours = load(tmp_path, batch_size)
        images = ours.image_vectors([Image(f"{n}.png", file) for n, file in enumerate(files)])
        texts = ours.text_vectors([ours.encode(text) for text in TEXTS])
        torch.testing.assert_close(images @ texts.T, wanted, atol=1e-5, rtol=0)
        assert images.dtype == torch.float32 and images.shape == (3, 16)


def test_the_length_of_a_text_counts_start_and_end_and_nothing_is_cut(place: Path) -> None:
    model = load(place)
    assert model.max_tokens == MOST_TOKENS
    assert [len(model.encode(text)) for text in ("", "cat", "x" * 100)] == [2, 5, 102]


def test_a_special_token_in_a_text_is_text(place: Path) -> None:
    model = load(place)
    start, *inner, end = model.encode("a<|endoftext|>b<|startoftext|>")
    assert not {start, end} & {*inner}


def test_a_directory_that_is_no_whole_clip_model_is_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"reward.path = /absent: no such directory"):
        load(Path("/absent"))
    with pytest.raises(ValueError, match=rf"reward.path = {tmp_path}: cannot be read as a CLIP"):
        load(tmp_path)
    names = ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json", "config.json")
    for name in names:
        (tmp_path / name).write_bytes((place / name).read_bytes())
    weights = load_file(place / "model.safetensors")
    projection = weights.pop("text_projection.weight")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"missing keys text_projection\.weight"):
        load(tmp_path)
    more = {**weights, "text_projection.weight": projection, "extra": projection.clone()}
    save_file(more, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="unexpected keys extra"):
        load(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match=r"cannot be read as a CLIP model: .*preprocessor"):
        load(tmp_path)


def test_code_of_a_directory_does_not_run(place: Path, tmp_path: Path) -> None:
    for file in place.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "model.Evil", "AutoConfig": "model.Evil"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.py").write_text("raise SystemExit('ran')")
    assert load(tmp_path).encode("cat") == load(place).encode("cat")
