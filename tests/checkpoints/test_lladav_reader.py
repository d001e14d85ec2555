"""LLaDA-V's prompts by the reader, from messages with images."""

from pathlib import Path

import pytest

from tests.models.vision.lladav import (
    CASES,
    FOLDER,
    golden_model,
    recorded,
    recorded_image,
    vision_side,
)
from unmask.checkpoints.build_reader import build_reader
from unmask.checkpoints.image_reader import prompt_tokens
from unmask.checkpoints.lladav_reader import LladavReader
from unmask.checkpoints.tokenizer import load_tokenizer
from unmask.images import Image
from unmask.models.families.lladav import SYSTEM
from unmask.types import Message, PromptImage


@pytest.fixture
def reader() -> LladavReader:
    found = build_reader(golden_model(), load_tokenizer(FOLDER))
    assert isinstance(found, LladavReader)
    return found


def test_the_published_prompt_of_a_conversation(reader: LladavReader) -> None:
    """The system turn is added; the vectors stand where the published placeholder stands."""
    image = recorded_image("wide")
    message = Message.of("user", image, CASES["question"])
    found = prompt_tokens([message], load_tokenizer(FOLDER), reader)
    count = len(recorded()["wide_image_features"])
    assert found.images == (PromptImage(image.digest, count),)
    assert found.images[0].source == image
    published = recorded()["prompt_ids"].tolist()
    place = published.index(-200)
    vectors = range(-1, -1 - count, -1)
    assert found.token_ids == (*published[:place], *vectors, *published[place + 1 :])


@pytest.mark.parametrize("name", ["wide", "tall", "big", "small"])
def test_as_many_positions_as_vectors(reader: LladavReader, name: str) -> None:
    message = Message.of("user", recorded_image(name), "?")
    found = prompt_tokens([message], load_tokenizer(FOLDER), reader)
    vision = vision_side()
    assert found.images[0].count == len(vision(vision.features(found.images)))


def test_text_alone_and_an_own_system_turn(reader: LladavReader) -> None:
    own = [Message("system", "Be short."), Message("user", "1")]
    assert reader.conversation(own) == own
    assert reader.conversation(own[1:]) == [Message("system", SYSTEM), own[1]]
    text = prompt_tokens(own, load_tokenizer(FOLDER), reader)
    assert text.images == () and min(text.token_ids) >= 0


def test_a_broken_image_is_named(reader: LladavReader, tmp_path: Path) -> None:
    message = Message.of("user", Image("a.png", b"no image"), "?")
    with pytest.raises(ValueError, match=r"a\.png is no image of one of the formats"):
        prompt_tokens([message], load_tokenizer(FOLDER), reader)
