"""Rollouts: order, counts, and seeds that know only their own prompt."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.models.vision.mmada import FOLDER, drawing_model
from tests.toy import toy_checkpoint
from unmask.engine.llm import LLM
from unmask.engine.options import EngineParams
from unmask.models.vision.image_codec import decode_image
from unmask.presets import preset
from unmask.rewards.weighted import Answer, AnswerGroup
from unmask.rollouts.collect import (
    check_room,
    drawings_of,
    grade_trajectories,
    write_trajectories,
)
from unmask.sampling_params import SamplingParams
from unmask.tasks.task import Task, prompt_from_text
from unmask.types import Prompt, Score, Trajectory

SAMPLING = SamplingParams(max_tokens=6, n=3, temperature=3.0)


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    return LLM(
        toy_checkpoint(tmp_path_factory.mktemp("checkpoint")), params=EngineParams(max_sequences=4)
    )


@pytest.fixture(scope="module")
def prompts(llm: LLM) -> list[Prompt]:
    texts = ["1+1=", "23=", "4-4-4=", "5="]
    return llm.tokenize([prompt_from_text("toy", text, {"text": text}) for text in texts])


def counting_task() -> Task:
    """Return a task whose reward is the number of characters; only answers with an `a` have a part."""

    def grade(pairs: Sequence[tuple[Prompt, str]]) -> list[Score]:
        return [
            Score(len(text), {"a": text.count("a")} if "a" in text else {}) for _, text in pairs
        ]

    return Task("toy", lambda _: (), lambda _: None, grade)


def test_the_answers_to_a_prompt_stand_together_in_the_order_of_the_prompts(
    llm: LLM, prompts: list[Prompt]
) -> None:
    found = write_trajectories(llm, prompts, SAMPLING, seed=0)
    assert [t.prompt for t in found] == [p for p in prompts for _ in range(3)]
    assert all(t.sampling.n == 1 for t in found)
    for start in range(0, len(found), 3):
        assert len({t.response_ids for t in found[start : start + 3]}) > 1


def test_an_answer_does_not_depend_on_the_other_prompts(llm: LLM, prompts: list[Prompt]) -> None:
    together = write_trajectories(llm, prompts, SAMPLING, seed=5)
    alone = write_trajectories(llm, prompts[2:3], SAMPLING, seed=5)
    backwards = write_trajectories(llm, prompts[::-1], replace(SAMPLING, n=2), seed=5)
    assert together[6:9] == alone
    assert backwards[2:4] == alone[:2]
    assert write_trajectories(llm, prompts[2:3], SAMPLING, seed=6) != alone


def test_a_prompt_asked_twice_gets_other_answers(llm: LLM, prompts: list[Prompt]) -> None:
    found = write_trajectories(llm, [prompts[0], prompts[1], prompts[0]], SAMPLING, seed=5)
    assert found[:3] == write_trajectories(llm, prompts[:1], SAMPLING, seed=5)
    assert found[3:6] == write_trajectories(llm, prompts[1:2], SAMPLING, seed=5)
    assert found[6:] == write_trajectories(llm, prompts[:1], replace(SAMPLING, n=6), seed=5)[3:]


def test_on_finish_hears_of_every_answer_once(llm: LLM, prompts: list[Prompt]) -> None:
    heard: list[Trajectory] = []
    found = write_trajectories(llm, prompts, SAMPLING, 0, heard.append)
    assert sorted(map(id, heard)) == sorted(map(id, found))


def test_groups_hold_each_answer_with_its_own_reward(llm: LLM, prompts: list[Prompt]) -> None:
    trajectories = write_trajectories(llm, prompts, SAMPLING, seed=0)
    groups = grade_trajectories(llm, counting_task(), trajectories, 3)
    assert [g.prompt for g in groups] == prompts
    assert [t for g in groups for t in g.trajectories] == trajectories
    texts = [llm.decode(t.response_ids) for t in trajectories]
    assert [r for g in groups for r in g.rewards] == [len(text) for text in texts]
    assert any("a" in text for text in texts)
    for number, found in enumerate(groups):
        counts = [text.count("a") for text in texts[number * 3 : number * 3 + 3]]
        assert found.parts == ({"a": tuple(counts)} if any(counts) else {})


def test_a_reward_sees_whole_groups_with_their_verdicts_and_its_parts_are_kept(
    llm: LLM, prompts: list[Prompt]
) -> None:
    trajectories = write_trajectories(llm, prompts, SAMPLING, seed=0)
    seen: list[Answer] = []

    def rank(groups: Sequence[AnswerGroup]) -> list[list[Score]]:
        seen.extend(answer for group in groups for answer in group)
        return [[Score(place, {"rank": place}) for place, _ in enumerate(g)] for g in groups]

    groups = grade_trajectories(llm, counting_task(), trajectories, 3, rank)
    assert [answer.trajectory for answer in seen] == trajectories
    assert all(answer.outcome.reward == len(answer.text) for answer in seen)
    assert all(g.rewards == (0, 1, 2) and g.parts == {"rank": (0, 1, 2)} for g in groups)


def test_a_prompt_without_room_for_its_answer_is_refused(llm: LLM, prompts: list[Prompt]) -> None:
    longest = max(len(p.token_ids) for p in prompts)
    room = llm.model.spec.max_length - longest
    check_room(llm, prompts, SamplingParams(max_tokens=room))
    with pytest.raises(ValueError, match=f"{longest} tokens and max_tokens = {room + 1}"):
        check_room(llm, prompts, SamplingParams(max_tokens=room + 1))


def test_drawings_are_given_to_rewards_as_images() -> None:
    drawing = LLM(drawing_model(), image_codec=FOLDER.parent / "magvitv2")
    drawn = drawing.draw(["a cat", "two dogs"], preset("mmada_image", denoising_steps=2, seed=1))
    trajectories = [one.trajectory for one in drawn]
    images = drawings_of(drawing, trajectories)
    for one, image in zip(drawn, images, strict=True):
        assert image is not None and one.picture is not None
        assert decode_image(image).tobytes() == one.picture.tobytes()
    assert images[0] != images[1]
    text = replace(trajectories[0], sampling=SAMPLING)
    assert drawings_of(drawing, [text, trajectories[1]]) == [None, images[1]]
    codes_alone = LLM(drawing_model())
    assert drawings_of(codes_alone, [text]) == [None]
    with pytest.raises(ValueError, match=r"model\.image_codec: the drawings of a model are graded"):
        drawings_of(codes_alone, trajectories)
