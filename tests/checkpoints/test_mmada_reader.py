"""MMaDA's prompts by the reader, from messages with images."""

from dataclasses import replace

import pytest
import torch
from PIL import Image as pillow
from safetensors.torch import load_file

from tests.models.toy import GOLDEN
from tests.models.vision.mmada import FOLDER, IDS
from unmask.checkpoints.image_reader import prompt_tokens
from unmask.checkpoints.magvit_files import load_magvit
from unmask.checkpoints.mmada_reader import MmadaReader
from unmask.checkpoints.tokenizer import load_tokenizer
from unmask.images import Image, image_from
from unmask.types import Message

SIDE = replace(IDS, side=8)


def photo(name: str) -> Image:
    recorded = load_file(FOLDER / "expected.safetensors")
    return image_from(pillow.fromarray(recorded[f"photo_{name}"].numpy()), name)


@pytest.fixture(scope="module")
def reader() -> MmadaReader:
    return MmadaReader(SIDE, load_magvit(GOLDEN / "magvitv2"))


@pytest.mark.parametrize("name", ["wide", "tall"])
def test_published_codes_of_a_photograph(reader: MmadaReader, name: str) -> None:
    recorded = load_file(FOLDER / "expected.safetensors")[f"image_ids_{name}"].flatten()
    assert [code + IDS.image_offset for code in reader.codes(photo(name))] == recorded.tolist()


def test_codes_stand_in_front_of_the_conversation(reader: MmadaReader) -> None:
    tokenizer = load_tokenizer(FOLDER)
    message = Message.of("user", photo("wide"), "an owl")
    found = prompt_tokens([message], tokenizer, reader)
    plain = prompt_tokens([Message("user", "an owl")], tokenizer, reader).token_ids
    ids = [code + IDS.image_offset for code in reader.codes(photo("wide"))]
    image = IDS.start_of_image, *ids, IDS.end_of_image
    assert found.token_ids == (IDS.understanding, *image, *plain) and found.images == ()
    two = Message.of("user", photo("wide"), photo("wide"), "an owl")
    assert prompt_tokens([two], tokenizer, reader).token_ids == (
        *(IDS.understanding, *image, *image, *plain),
    )


def test_recipes_have_settings_of_their_own(reader: MmadaReader) -> None:
    other = replace(reader, preprocess="squash")
    assert other.settings != reader.settings
    with torch.no_grad():
        codec = load_magvit(GOLDEN / "magvitv2")
        next(codec.parameters()).add_(1)
    assert MmadaReader(SIDE, codec).settings != reader.settings


def test_the_codes_of_so_many_images_are_kept(
    reader: MmadaReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unmask.checkpoints.mmada_reader.MOST_KEPT", 1)
    fresh = MmadaReader(SIDE, reader.codec)
    expected = [reader.codes(photo(name)) for name in ("wide", "tall", "wide")]
    assert [fresh.codes(photo(name)) for name in ("wide", "tall", "wide")] == expected
    assert len(fresh._codes) == 1  # pyright: ignore[reportPrivateUsage]


def test_the_weights_of_a_codec_are_read_once_for_the_settings(reader: MmadaReader) -> None:
    fresh = MmadaReader(SIDE, reader.codec)
    first = fresh.settings
    assert fresh.settings is first == reader.settings


def test_without_a_codec_an_image_is_refused() -> None:
    message = Message.of("user", photo("wide"), "?")
    with pytest.raises(
        ValueError, match=r"wide: this model reads images as codes: set model\.image"
    ):
        prompt_tokens([message], load_tokenizer(FOLDER), MmadaReader(SIDE))
