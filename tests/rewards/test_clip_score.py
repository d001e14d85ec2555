"""CLIP scores of captions: each by its own image, and captions that are paid nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.checkpoints.toy_clip import MOST_TOKENS, png, write_clip
from tests.rewards.toy_answers import PROMPT, answer
from unmask.checkpoints.clip_model import ClipModel, load_clip
from unmask.images import Image
from unmask.rewards.clip_score import ClipScores, caption_of
from unmask.types import Message, Prompt

CATS, DOGS = Image("cats.png", png(1)), Image("dogs.png", png(2))
ZERO = {"empty": 0.0, "too_long": 0.0}


class CountedClip(ClipModel):
    """A model that counts what it encodes."""

    num_images = num_texts = 0

    def image_vectors(self, images: Any) -> Any:
        self.num_images += len(images)
        return super().image_vectors(images)

    def text_vectors(self, texts: Any) -> Any:
        self.num_texts += len(texts)
        return super().text_vectors(texts)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("clip")
    write_clip(place)
    return place


@pytest.fixture
def model(place: Path) -> CountedClip:
    made = load_clip(place, torch.device("cpu"), torch.float32, 4, "reward.path")
    made.__class__ = CountedClip
    assert isinstance(made, CountedClip)
    return made


def captioned(image: Image | None, **reference: Any) -> Prompt:
    parts = (image, "What is this?") if image else ("What is this?",)
    return replace(PROMPT, messages=(Message.of("user", *parts),), reference=reference)


def test_a_caption_has_the_cosine_with_its_own_image(model: CountedClip) -> None:
    texts = ["a cat", "two dogs", "a cat", "So: \\boxed{a cat}"]
    groups = [
        [answer(text, prompt=captioned(image, is_caption=True)) for text in texts]
        for image in (CATS, DOGS, Image("copy.png", CATS.data))
    ]
    score = ClipScores(model, "captions")
    found = score(groups)
    assert (model.num_images, model.num_texts) == (2, 2)
    pictures = model.image_vectors([CATS, DOGS])
    captions = model.text_vectors([model.encode("a cat"), model.encode("two dogs")])
    wanted = (pictures @ captions.T).tolist()  # (2 images, 2 captions)
    assert len({cosine for row in wanted for cosine in row}) == 4
    for scores, row in zip(found, [*wanted, wanted[0]], strict=True):
        same = [row[0], row[1], row[0], row[0]]
        assert [one.reward for one in scores] == pytest.approx(same, abs=1e-6)
        assert all(one.parts == ZERO for one in scores)
    before = model.num_images
    assert score(groups) == found
    assert model.num_images == before


def test_a_caption_that_is_empty_or_longer_than_the_model_reads_earns_nothing(
    model: CountedClip,
) -> None:
    most = "x" * (MOST_TOKENS - 2)
    texts = [
        "",
        " \n",
        "\\boxed{}",
        "<think>a cat",
        "<think>a cat</think>",
        most,
        most + "x",
        "x" * 9999,
    ]
    prompt = captioned(CATS, is_caption=True)
    (scores,) = ClipScores(model, "captions")([[answer(text, prompt=prompt) for text in texts]])
    assert [one.parts["empty"] for one in scores] == [1] * 5 + [0] * 3
    assert [one.parts["too_long"] for one in scores] == [0] * 6 + [1] * 2
    assert [one.reward == 0 for one in scores] == [True] * 5 + [False] + [True] * 2
    assert model.num_texts == 1


def test_text_behind_an_end_that_is_spelled_out_counts(model: CountedClip) -> None:
    prompt = captioned(CATS, is_caption=True)
    hidden = answer("a cat<|endoftext|>" + "noise" * 9, prompt=prompt)
    ((score,),) = ClipScores(model, "captions")([[hidden]])
    assert (score.reward, score.parts["too_long"]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("A cat.", "A cat."),
        ("<think>A dog? No.</think>\nA cat.", "A cat."),
        ("A dog? No.</think>A cat.", "A cat."),
        ("<answer> A cat. </answer>", "A cat."),
        (r"It is \boxed{A {grey} cat}.", "A {grey} cat"),
        ("<think>Done</think>A cat.<think>and more", "A cat."),
    ],
)
def test_the_caption_is_the_answer_of_a_response(text: str, caption: str) -> None:
    assert caption_of(answer(text)) == caption


def test_only_captions_are_scored_unless_all_prompts_are(model: CountedClip) -> None:
    groups = [
        [answer("a cat", prompt=captioned(CATS, answer="2"))],
        [answer("a cat", prompt=captioned(CATS, is_caption=True))],
        [answer("a cat", prompt=captioned(None, is_caption=False))],
    ]
    (other,), (caption,), (text,) = ClipScores(model, "captions")(groups)
    assert (other.reward, text.reward, other.parts, text.parts) == (0, 0, ZERO, ZERO)
    assert caption.reward != 0
    assert ClipScores(model, "all")(groups[:2]) == [[caption], [caption]]
    assert ClipScores(model, "captions")(groups[:1]) == [[other]]


def test_a_drawing_is_compared_with_the_text_of_its_prompt(model: CountedClip) -> None:
    asked = replace(PROMPT, messages=(Message("user", "two dogs"),))
    group = [replace(answer("codes", prompt=asked), drawing=image) for image in (CATS, DOGS, CATS)]
    (scores,) = ClipScores(model, "captions")([group])
    assert (model.num_images, model.num_texts) == (2, 1)
    cosines = model.image_vectors([CATS, DOGS]) @ model.text_vectors([model.encode("two dogs")])[0]
    wanted = [*cosines.tolist(), float(cosines[0])]
    assert [one.reward for one in scores] == pytest.approx(wanted, abs=1e-6)
    assert wanted[0] != wanted[1]


@pytest.mark.parametrize(
    ("parts", "number"), [(["Hi"], "no image"), ([CATS, "or", DOGS], "2 images")]
)
def test_a_prompt_without_one_image_is_refused(
    model: CountedClip, parts: list[Any], number: str
) -> None:
    prompt = replace(captioned(None, is_caption=True), messages=(Message.of("user", *parts),))
    with pytest.raises(ValueError, match=f"prompt 7 of task 'toy' has {number}: must have one"):
        ClipScores(model, "captions")([[answer("a cat", prompt=prompt)]])
    twice = replace(prompt, messages=(Message.of("user", CATS, CATS),))
    ClipScores(model, "captions")([[answer("a cat", prompt=twice)]])
