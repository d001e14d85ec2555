"""The reader of a model, by how it holds images."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.models.toy import GOLDEN, family_model
from unmask.checkpoints.build_reader import build_reader
from unmask.checkpoints.image_reader import TEXT_ONLY
from unmask.checkpoints.lladav_reader import LladavReader
from unmask.checkpoints.mmada_reader import MmadaReader
from unmask.checkpoints.tokenizer import character_tokenizer
from unmask.types import Message

CODEC = GOLDEN / "magvitv2"


def test_every_kind_of_model_has_its_reader() -> None:
    assert build_reader(family_model("sdar"), None) is TEXT_ONLY
    assert isinstance(build_reader(family_model("lladav"), None), LladavReader)
    found = build_reader(family_model("mmada"), None, preprocess="crop")
    assert isinstance(found, MmadaReader) and found.preprocess == "crop"


def test_the_system_turn_needs_a_template_that_sets_turns_apart(tmp_path: Path) -> None:
    model, tokenizer = family_model("lladav"), character_tokenizer("abc", tmp_path)
    question = [Message("user", "a")]
    assert build_reader(model, tokenizer).conversation(question) == question
    tokenizer.chat_template = "{{ messages[0].content }}"
    assert build_reader(model, tokenizer).conversation(question)[0].role == "system"


def test_a_codec_must_be_the_model_s() -> None:
    model = family_model("mmada")
    with pytest.raises(ValueError, match="has 128 codes, the model 4: give the tokenizer"):
        build_reader(model, None, CODEC)
    assert model.spec.image_ids is not None
    model.spec = replace(model.spec, image_ids=replace(model.spec.image_ids, num_codes=128))
    assert isinstance(build_reader(model, None, CODEC), MmadaReader)


@pytest.mark.parametrize("family", ["sdar", "lladav"])
def test_other_models_have_no_use_for_one(family: str) -> None:
    with pytest.raises(
        ValueError, match=rf"image_codec = .*: the images of {family} are no tokens"
    ):
        build_reader(family_model(family), None, CODEC)
    with pytest.raises(ValueError, match="image_preprocess = crop: the images of"):
        build_reader(family_model(family), None, preprocess="crop")
