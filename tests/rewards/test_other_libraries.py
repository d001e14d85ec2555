"""Reward functions in the forms of TRL and verl are called as those libraries call them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.rewards.toy_answers import PROMPT, answer
from unmask.configs.reward import FunctionTerm
from unmask.configs.reward_function import OwnRewardConfig
from unmask.configs.task import JsonTaskConfig
from unmask.images import Image
from unmask.rewards.build import build_term
from unmask.rewards.other_libraries import Item, build_scorer, trl_call, verl_batch_call, verl_call
from unmask.rewards.weighted import AnswerGroup, standardized
from unmask.tasks.grader import own_grader
from unmask.types import Message, Prompt, Score

MODULE = '''
import asyncio, re, time

def strict_format_reward(completions, **kwargs):
    """TRL's documentation: completions are messages."""
    contents = [completion[0]["content"] for completion in completions]
    return [1.0 if re.match(r"^[0-9]+$", content) else 0.0 for content in contents]

def reward_len(completions, **kwargs):
    return [float(len(completion)) for completion in completions]

async def correct(prompts, completions, answer, **kwargs):
    await asyncio.sleep(0)
    return [float(c == a) if a is not None else None for c, a in zip(completions, answer)]

def ids(completions, completion_ids, **kwargs):
    return [len(one) for one in completion_ids]

def state(completions, trainer_state, **kwargs):
    return [0.0] * len(completions)

def narrow(completions):
    return [0.0] * len(completions)

def few(completions, **kwargs):
    return [0.0]

def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    if solution_str == "hangs":
        time.sleep(3600)
    right = solution_str == ground_truth
    return right if data_source == "plain" else {"score": right, "acc": right, "pred": solution_str}

def penalty(data_source, solution_str, ground_truth, extra_info=None):
    return compute_score(data_source, solution_str, ground_truth)["score"] - 1.5

async def compute_score_async(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    return extra_info.get("bonus", 0) + float(solution_str == ground_truth)

def compute_scores(data_sources, solution_strs, ground_truths, extra_infos):
    return [{"score": float(s == g)} for s, g in zip(solution_strs, ground_truths)]

def no_score(data_source, solution_str, ground_truth, extra_info):
    return {"acc": 1}

def nothing(data_source, solution_str, ground_truth, extra_info):
    return None

def other(data_source, solution, ground_truth, extra_info=None):
    return 0.0
'''


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "library_toy.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)


def scores(name: str, groups: Sequence[AnswerGroup], **keys: Any) -> list[list[Score]]:
    term = FunctionTerm(function=f"library_toy:{name}", **keys)
    tokenizer: Any = None
    return build_term(term, Path(), tokenizer, torch.device("cpu"))(groups)


def rewards(name: str, groups: Sequence[AnswerGroup], **keys: Any) -> list[list[Any]]:
    return [[score.reward for score in group] for group in scores(name, groups, **keys)]


OTHER = Prompt("other", 3, (Message("user", "3+"),), (2,), {"level": 5})
GROUPS = [[answer("2", 3), answer("two", 5)], [answer("5", 4, prompt=OTHER)]]


def test_a_function_of_trl_gets_all_responses_as_lists() -> None:
    assert rewards("reward_len", GROUPS, signature="trl") == [[1.0, 3.0], [1.0]]
    assert rewards("ids", GROUPS, signature="trl") == [[3.0, 5.0], [4.0]]
    chat = rewards("strict_format_reward", GROUPS, signature="trl_conversational")
    assert chat == [[1.0, 0.0], [1.0]]


def test_columns_are_the_fields_of_records_and_none_is_counted() -> None:
    assert scores("correct", GROUPS, signature="trl") == [
        [Score(1.0, {"unrated": 0.0}), Score(0.0, {"unrated": 0.0})],
        [Score(0.0, {"unrated": 1.0})],
    ]


def test_a_round_has_the_columns_of_earlier_rounds() -> None:
    scorer = build_scorer("library_toy:correct", "trl", 600.0, "reward.function", is_term=True)
    rounds = ([Item(PROMPT, "2", (5,))], [Item(OTHER, "2", (5,))])
    found = [scorer.score(items) for items in rounds]
    assert found == [[Score(1.0, {"unrated": 0.0})], [Score(0.0, {"unrated": 1.0})]]
    scorer.close()


def test_a_response_that_a_function_does_not_apply_to_is_not_compared() -> None:
    group = [answer("2"), answer("3"), answer("2", prompt=OTHER)]
    compared = standardized(partial(scores, "correct", signature="trl"))
    (found,) = compared([group])
    assert [score.reward for score in found] == [1.0, -1.0, 0.0]
    assert found[2].parts == {"unrated": 1.0, "raw": 0.0}
    blank = replace(OTHER, reference={"answer": None})
    assert compared([[answer("2", prompt=blank)]])[0][0].reward == 0.0


def test_the_arguments_are_those_of_trl() -> None:
    items = [Item(a.prompt, a.text, a.trajectory.response_ids) for group in GROUPS for a in group]
    call = trl_call(items, True, "reward", ("answer", "level"))
    assert call["prompts"][0] == [{"role": "user", "content": "1+1="}]
    assert call["completions"][1] == [{"role": "assistant", "content": "two"}]
    assert (call["answer"], call["level"]) == (["2", "2", None], [None, None, 5])
    assert [len(ids) for ids in call["completion_ids"]] == [3, 5, 4]
    texts = trl_call(items[:1], False, "reward", ("answer",))
    assert (texts["prompts"], texts["completions"]) == (["1+1="], ["2"])
    recorded = replace(PROMPT, reference={"prompt": "left out", "answer": "2"})
    assert trl_call([Item(recorded, "2")], False, "reward", recorded.reference).keys() == {
        *("prompts", "completions", "answer")
    }


RECORD: Mapping[str, Any] = {
    "data_source": "gsm8k",
    "reward_model": {"style": "rule", "ground_truth": "4"},
    "extra_info": {"index": 7},
}


@pytest.mark.parametrize(
    ("reference", "source", "truth", "extra"),
    [
        (RECORD, "gsm8k", "4", {"index": 7}),
        ({"answer": "2"}, "toy", "2", {}),
        ({"ground_truth_answer": [1, 2], "answer": "2"}, "toy", [1, 2], {}),
    ],
)
def test_the_arguments_are_those_of_verl(
    reference: Any, source: str, truth: Any, extra: Any
) -> None:
    item = Item(replace(PROMPT, reference=reference), "text")
    call = verl_call(item, "reward")
    assert call == {
        **{"data_source": source, "solution_str": "text"},
        **{"ground_truth": truth, "extra_info": extra},
    }
    assert verl_batch_call([item], "reward") == {f"{k}s": [value] for k, value in call.items()}


def test_a_function_of_verl_returns_a_number_or_a_table() -> None:
    plain = replace(PROMPT, reference={"answer": "2", "data_source": "plain"})
    groups = [[answer("2"), answer("3")], [answer("2", prompt=plain)]]
    assert scores("compute_score", groups, signature="verl") == [
        [Score(1.0, {"late": 0.0, "acc": 1.0}), Score(0.0, {"late": 0.0, "acc": 0.0})],
        [Score(1.0, {"late": 0.0})],
    ]
    assert rewards("compute_score_async", groups, signature="verl") == [[1.0, 0.0], [1.0]]
    assert rewards("compute_scores", groups, signature="verl_batch") == [[1.0, 0.0], [1.0]]


def test_a_late_response_earns_nothing_and_is_counted() -> None:
    found = scores(
        "compute_score", [[answer("hangs"), answer("2")]], signature="verl", time_limit_s=3.0
    )
    assert found == [[Score(0.0, {"late": 1.0}), Score(1.0, {"late": 0.0, "acc": 1.0})]]


def test_a_late_response_earns_no_more_than_a_wrong_one() -> None:
    group = [answer("hangs"), answer("2"), answer("3")]
    found = rewards("penalty", [group], signature="verl", time_limit_s=3.0)
    assert found == [[-1.5, -0.5, -1.5]]


def test_the_task_is_graded_by_a_function_of_another_library() -> None:
    items = [(PROMPT, "2"), (PROMPT, "3")]
    for name, signature in (("correct", "trl"), ("compute_scores", "verl_batch")):
        keys: dict[str, Any] = {"reward_signature": signature, "reward_time_limit_s": 60.0}
        grader = own_grader(OwnRewardConfig(reward=f"library_toy:{name}", **keys))
        assert grader is not None
        assert [score.reward for score in grader.grade(items)] == [1.0, 0.0]
        grader.close()
        assert [score.reward for score in grader.grade(items[:1])] == [1.0], "it starts again"
        assert grader.grade([]) == []


IMAGE = replace(PROMPT, messages=(Message.of("user", Image("a.png", b"1"), "?"),))
TURNS = replace(PROMPT, messages=(Message("system", "Be brief."), Message("user", "1+1=")))
REFUSED: dict[str, tuple[str, str, Prompt, str]] = {
    "a column": ("correct", "trl", OTHER, "it needs answer, and there are prompts, completions, "),
    "the trainer": ("state", "trl", PROMPT, "it needs trainer_state, and there are"),
    "no kwargs": ("narrow", "trl", PROMPT, r"it takes no prompts, .*: add that parameter or \*\*"),
    "too few": ("few", "trl", PROMPT, "must be a list of 2 numbers"),
    "another name": ("other", "verl", PROMPT, "it takes no solution_str, which every call has"),
    "no score": ("no_score", "verl", PROMPT, "a table without a number score, {'acc': 1}, for a"),
    "nothing": (
        "nothing",
        "verl",
        PROMPT,
        "returned None for a response to prompt 7 of task 'toy'",
    ),
    "no truth": ("compute_score", "verl", OTHER, "no ground truth: give reward_model"),
    "images": ("reward_len", "trl", IMAGE, "has images, which only signature = "),
    "turns": ("reward_len", "trl", TURNS, 'has 2 messages, .* "trl_conversational"'),
    "a set": (
        "reward_len",
        "trl",
        replace(PROMPT, reference={"a": {1}}),
        "the field a of a record",
    ),
    "a clash": (
        "reward_len",
        "trl",
        replace(PROMPT, reference={"completions": 1}),
        "the column completions has the name of an argument",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_mistakes_are_named(name: str) -> None:
    function, signature, prompt, message = REFUSED[name]
    answers = [answer("2", prompt=prompt), answer("3", prompt=prompt)]
    with pytest.raises(
        ValueError, match=rf"reward\.function = 'library_toy:{function}'.*{message}"
    ):
        scores(function, [answers], signature=signature)


def test_a_drawing_and_a_task_without_a_number_are_refused() -> None:
    drawn = replace(answer(), drawing=Image("a.png", b"1"))
    with pytest.raises(ValueError, match=r"reward\.function: a response that is an image has no"):
        scores("reward_len", [[drawn]], signature="trl")
    grader = own_grader(OwnRewardConfig(reward="library_toy:correct", reward_signature="trl"))
    assert grader is not None
    unknown = replace(PROMPT, reference={"answer": None})
    with pytest.raises(ValueError, match=r"task\.reward = .* returned None for a response to"):
        grader.grade([(unknown, "2")])
    with pytest.raises(ValueError, match=r"task\.reward = .*it needs completion_ids"):
        grader = own_grader(OwnRewardConfig(reward="library_toy:ids", reward_signature="trl"))
        assert grader is not None
        grader.grade([(PROMPT, "2")])


def test_keys_without_effect_are_refused() -> None:
    with pytest.raises(ValueError, match=r"time_limit_s = 5: holds in a process of its own"):
        FunctionTerm(function="a:b", time_limit_s=5)
    with pytest.raises(ValueError, match='reward_signature = "trl" without reward: name the func'):
        JsonTaskConfig(reward_signature="trl")
    with pytest.raises(ValueError, match="reward_time_limit_s = 5: holds in a process of its own"):
        JsonTaskConfig(reward="a:b", reward_time_limit_s=5)
