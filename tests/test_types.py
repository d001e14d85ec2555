"""The records refuse what no sampler could honour, and read off what they hold."""

from dataclasses import asdict, replace

import pytest

from unmask.images import Image
from unmask.sampling_params import SamplingParams
from unmask.types import Message, Prompt, PromptImage, Trajectory


def test_a_digest_covers_the_token_ids_and_nothing_that_the_model_does_not_read() -> None:
    prompt = Prompt("toy", 0, (), (5, 6, 7))
    again = Prompt("other", 3, (Message("user", "?"),), (5, 6, 7), {"answer": 1})
    assert prompt.digest == again.digest == prompt.digest
    assert replace(prompt, token_ids=(5, 6)).digest != prompt.digest
    assert prompt == replace(prompt) and "digest" not in asdict(prompt)


def test_digests_of_a_prefix_are_those_of_a_prompt_that_ends_there() -> None:
    ids = tuple(range(9))
    digests = Prompt("toy", 0, (), ids).prefix_digests((2, 5, 9))
    assert digests == [Prompt("toy", 0, (), ids[:end]).digest for end in (2, 5, 9)]
    assert Prompt("toy", 0, ()).prefix_digests(()) == []


def test_prompts_with_other_images_behind_equal_placeholders_have_other_digests() -> None:
    ids = (5, -1, -2, -3, 6, -4, -5, 7)
    images = (PromptImage(b"a" * 16, 3), PromptImage(b"b" * 16, 2))
    prompt = Prompt("toy", 0, (), ids, images=images)
    plain = replace(prompt, images=())
    second = replace(prompt, images=(images[0], replace(images[1], digest=b"c" * 16)))
    assert len({each.digest for each in (prompt, plain, second)}) == 3
    ends = (1, 2, 4, 5, 6, 8)
    digests = prompt.prefix_digests(ends)
    # Alike up to the first image, and the two with the same first image up to the second.
    for other, alike in ((plain, 1), (second, 4)):
        pairs = zip(digests, other.prefix_digests(ends), strict=True)
        assert [a == b for a, b in pairs] == [True] * alike + [False] * (6 - alike)
    for end in ends:  # whatever other ends are asked for
        assert prompt.prefix_digests((end,)) == [digests[ends.index(end)]]


def test_a_message_has_a_marker_for_each_image() -> None:
    image = Image("a.png", b"content")
    message = Message.of("user", image, "How many?")
    assert message == Message("user", "<image>\nHow many?", (image,))
    assert Message("user", "<image> is a tag").images == ()
    with pytest.raises(ValueError, match="the text has 0 <image> for 1 images"):
        Message("user", "How many?", (image,))
    with pytest.raises(ValueError, match="the text has 2 <image> for 1 images"):
        Message.of("user", image, "<image>")


def test_a_response_is_the_start_of_its_canvas() -> None:
    trajectory = Trajectory(
        prompt=Prompt("toy", 0, ()),
        canvas_ids=(5, 6, 0, 7),
        step_map=(2, 1, 3, 2),
        behavior_logprobs=(0.0,) * 4,
        num_response=3,
        finish="stop",
        policy_version=0,
        sampling=SamplingParams(),
        num_forwards=3,
    )
    assert trajectory.response_ids == (5, 6, 0)
    assert trajectory.num_steps == 3
    assert replace(trajectory, num_response=1).response_ids == (5,)
    # Steps without a write that stands exist only where tokens may change.
    assert replace(trajectory, step_map=(1, 1, 2, 2)).num_steps == 2
    edits = SamplingParams(edit_threshold=0.9)
    assert replace(trajectory, sampling=edits, num_steps=5).num_steps == 5
