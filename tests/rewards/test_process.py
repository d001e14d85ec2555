"""Process rewards: chunks, labels, and the denoising steps that they belong to."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rewards.judge_server import JudgeServer, endpoint, judge_server
from tests.rewards.toy_answers import PROMPT, with_steps
from unmask.checkpoints.random_init import byte_tokenizer
from unmask.checkpoints.tokenizer import Tokenizer, decode, encode
from unmask.configs.reward import ProcessTerm
from unmask.images import Image, data_url
from unmask.rewards.judge import Judge
from unmask.rewards.process import (
    ProcessReward,
    chunk_ends,
    chunk_label,
    compare_chunks,
    read_label,
    rewards_in_chunks,
    rewards_on_steps,
)
from unmask.rewards.weighted import Answer
from unmask.runs.trajectories import total_reward
from unmask.types import Message


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return byte_tokenizer(tmp_path_factory.mktemp("bytes"))


def written(
    text: str, tokenizer: Tokenizer, steps: Sequence[int] | None = None, outcome: float = 1.0
) -> Answer:
    ids = encode(text, tokenizer)
    found = with_steps(steps or range(1, len(ids) + 1), decode(ids, tokenizer), outcome)
    return replace(found, trajectory=replace(found.trajectory, canvas_ids=(*ids, 1)))


def field(name: str, question: str) -> str:
    (text,) = re.findall(rf"<{name}-\w+>\n(.*?)\n</{name}-", question, re.DOTALL)
    return text


def without_b(question: str) -> str:
    return r"\boxed{-1}" if "b" in field("chunk", question) else r"\boxed{1}"


def process(
    server: JudgeServer, tokenizer: Tokenizer, place: Path, **changes: Any
) -> ProcessReward:
    votes = changes.pop("votes", 1)
    config = endpoint(server, votes=votes, concurrency=1)
    term = ProcessTerm(endpoint=config, **{"chunk_tokens": 3, **changes})
    return ProcessReward(term, Judge(config, place), tokenizer)


def test_a_label_is_on_the_step_that_completed_its_chunk(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    answer = written("aaabbba", tokenizer, [1, 3, 2, 4, 4, 5, 5])
    with judge_server(without_b) as server:
        ((score,),) = process(server, tokenizer, tmp_path)([[answer]])
        prefixes = [field("prefix", question) for question in server.questions]
    assert prefixes == ["aaa", "aaabbb", "aaabbba"]
    assert score.reward == (0, 1, 0, 0, 0, 0, 0)  # at step 5 a bad chunk and a good one end
    assert score.parts == {"label": pytest.approx(1 / 3), "split_votes": 0.0}


def test_chunks_are_compared_with_the_same_chunk_of_the_siblings(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    group = [written("aaab", tokenizer), written("bbb", tokenizer), written("aaaaaab", tokenizer)]
    with judge_server(without_b) as server:
        (scores,) = process(server, tokenizer, tmp_path)([group])
    high, low = (1 - 1 / 3) / (8 / 9) ** 0.5, (-1 - 1 / 3) / (8 / 9) ** 0.5
    assert scores[0].reward == pytest.approx((0, 0, high, -1))
    assert scores[1].reward == pytest.approx((0, 0, low))
    assert scores[2].reward == pytest.approx(
        (0, 0, high, 0, 0, 1, -1)
    )  # no other answer is as long


def test_a_judge_sees_the_images_of_the_prompt_with_every_chunk(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    image = Image("a.png", b"\x89PNG\r\n\x1a\n")
    prompt = replace(PROMPT, messages=(Message.of("user", image, "Which letters?"),))
    answer = written("aaab", tokenizer)
    answer = replace(answer, trajectory=replace(answer.trajectory, prompt=prompt))
    with judge_server(without_b) as server:
        process(server, tokenizer, tmp_path)([[answer]])
        contents = [body["messages"][0]["content"] for body in server.bodies]
    assert [len(content) for content in contents] == [2, 2]
    assert all(content[0]["image_url"]["url"] == data_url(image) for content in contents)
    assert field("question", contents[0][1]["text"]) == "[image 1]\nWhich letters?"


@pytest.mark.parametrize(
    ("rule", "outcome", "label"), [("mean", 1.0, 1 / 3), ("outcome", 1.0, 1), ("outcome", 0.0, -1)]
)
def test_votes_that_differ_are_averaged_or_follow_the_outcome(
    rule: str, outcome: float, label: float, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    answer = written("aa", tokenizer, outcome=outcome)
    with judge_server(without_b) as server:
        server.plan = [r"\boxed{1}", r"\boxed{1}", r"\boxed{-1}"]
        judge = process(server, tokenizer, tmp_path, votes=3, split_votes=rule)
        ((score,),) = judge([[answer]])
    assert score.reward == pytest.approx((0, label))
    assert score.parts["split_votes"] == 1.0


def test_a_character_that_a_chunk_cuts_is_left_to_the_next(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    answer = written("aé€b", tokenizer)  # 1 + 2 + 3 + 1 bytes
    with judge_server(without_b) as server:
        process(server, tokenizer, tmp_path, chunk_tokens=2)([[answer]])
        prefixes = [field("prefix", question) for question in server.questions]
        chunks = [field("chunk", question) for question in server.questions]
    assert prefixes == ["a", "aé", "aé€", "aé€b"]
    assert "".join(chunks) == "aé€b"


@given(st.integers(1, 50), st.integers(1, 60))
def test_chunks_cover_the_response(num_response: int, chunk: int) -> None:
    ends = chunk_ends(num_response, chunk)
    assert ends[-1] == num_response
    sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    assert all(size == chunk for size in sizes[:-1])
    assert 1 <= sizes[-1] <= chunk


@given(st.lists(st.integers(1, 6), min_size=1, max_size=20), st.integers(1, 7), st.data())
def test_rewards_of_steps_sum_to_those_of_chunks_and_come_after_the_chunk(
    steps: list[int], chunk: int, data: Any
) -> None:
    ends = chunk_ends(len(steps), chunk)
    rewards = data.draw(
        st.lists(st.integers(-3, 3).map(float), min_size=len(ends), max_size=len(ends))
    )
    laid = rewards_on_steps(rewards, ends, steps)
    assert total_reward(laid, steps) == pytest.approx(sum(rewards))
    for index, end in enumerate(ends):
        alone = rewards_on_steps([float(i == index) for i in range(len(ends))], ends, steps)
        assert {s for s, reward in zip(steps, alone, strict=True) if reward} == {max(steps[:end])}


def test_equal_labels_give_no_reward() -> None:
    assert compare_chunks([[1.0, -1.0], [1.0], [1.0, -1.0]]) == [[0.0, 0.0], [0.0], [0.0, 0.0]]
    assert compare_chunks([[0.3], [0.1 + 0.2]]) == [[0.0], [0.0]]


def test_rewards_are_placed_on_the_tokens_of_a_chunk_that_were_revealed_last(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    answer = written("aaabbba", tokenizer, [1, 3, 2, 4, 4, 3, 3])
    with judge_server(without_b) as server:
        judge = process(
            server, tokenizer, tmp_path, placed_on="chunk", template="{question} {chunk}"
        )
        ((score,),) = judge([[answer]])
        assert [field("chunk", question) for question in server.questions] == ["aaa", "bbb", "a"]
        assert not any("prefix" in question for question in server.questions)
    assert score.reward == (0, 1, 0, -1, -1, 0, 1)


@pytest.mark.parametrize(
    ("unread", "replies", "label"),
    [("zero", ["hm", "hm"], 1), ("zero", [r"\boxed{1}", "hm"], 1), ("retry", ["hm", "hm"], -1)],
)
def test_a_reply_without_a_label_is_asked_again_or_a_vote_of_0(
    unread: str, replies: list[str], label: float, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    with judge_server(without_b) as server:
        server.plan = [*replies]
        judge = process(
            server, tokenizer, tmp_path, votes=2, split_votes="outcome", unread_votes=unread
        )
        ((score,),) = judge([[written("b", tokenizer)]])
        assert len(server.questions) == (2 if unread == "zero" else 4)
    assert score.reward == (label,)
    assert score.parts["split_votes"] == (unread == "zero")


def test_a_caption_has_no_outcome_to_follow() -> None:
    right = with_steps([1], outcome=1.0)
    prompt = replace(PROMPT, reference={"is_caption": True})
    caption = replace(right, trajectory=replace(right.trajectory, prompt=prompt))
    assert [chunk_label((1, 1, -1), one, "outcome") for one in (right, caption)] == [1.0, 1 / 3]
    assert chunk_label((-1, -1), caption, "outcome") == -1.0


def test_labels_and_rewards_are_those_of_the_published_pipeline_with_images() -> None:
    file = Path(__file__).parents[1] / "golden" / "reward_v" / "scoring.json"
    golden = json.loads(file.read_text())
    process, size = golden["process"], golden["process"]["chunk_size"]
    items = iter(process["items"])
    tasks = zip(golden["rollouts"], process["votes"], process["correctness"], strict=True)
    for task, votes, correctness in tasks:
        graded = [with_steps([1], outcome=float(is_right)) for is_right in correctness]
        labels = [
            [chunk_label(chunk, answer, "outcome") for chunk in chunks]
            for chunks, answer in zip(votes, graded, strict=True)
        ]
        lengths = task["response_length"]
        assert [*map(len, votes)] == [len(chunk_ends(length, size)) for length in lengths]
        for rewards, steps in zip(compare_chunks(labels), task["step_map"], strict=True):
            # The published last chunk runs into the padding after the response.
            ends = [size * (k + 1) for k in range(len(rewards))]
            placed = rewards_in_chunks(rewards, ends, steps)
            item = next(items)
            assert item["step_map"] == steps
            assert (*placed, *[0.0] * (12 - len(placed))) == pytest.approx(item["reward"])
    assert next(items, None) is None


@pytest.mark.parametrize(
    ("reply", "label"),
    [
        (r"\boxed{1}", 1.0),
        (r"\boxed{ -1 }", -1.0),
        (r"\boxed{+1}", 1.0),
        (r"\boxed{0}", None),
        ("1", None),
    ],
)
def test_a_label_is_read_strictly(reply: str, label: float | None) -> None:
    assert read_label(reply) == label
