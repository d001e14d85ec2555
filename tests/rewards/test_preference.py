"""Win rates: the pairs that are compared, and a position bias that cancels."""

import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.rewards.judge_server import JudgeServer, endpoint, judge_server
from tests.rewards.toy_answers import PROMPT, answer
from unmask.configs.reward import PreferenceTerm
from unmask.rewards.judge import Judge
from unmask.rewards.preference import Preference, read_choice, sibling_pairs


def texts_of(question: str) -> tuple[str, str]:
    first, second = re.findall(r"<(?:first|second)-\w+>\n(.*)\n</", question)
    return first, second


def longer(question: str) -> str:
    """Prefer the longer text, and nothing else."""
    first, second = texts_of(question)
    return r"\boxed{A}" if len(first) > len(second) else r"\boxed{B}"


def rates(
    server: JudgeServer, place: Path, texts: list[str], prompt: Any = PROMPT, **changes: Any
) -> list[Any]:
    term = PreferenceTerm(endpoint=endpoint(server), **changes)
    judge = Preference(term, Judge(term.endpoint, place))
    (found,) = judge([[answer(text, prompt=prompt) for text in texts]])
    return [score.reward for score in found]


def test_the_reward_is_the_share_of_comparisons_won(tmp_path: Path) -> None:
    with judge_server(longer) as server:
        assert rates(server, tmp_path, ["a", "aaaa", "aa", "aaa"]) == [0, 1, 1 / 3, 2 / 3]
        assert len(server.questions) == 4 * 3
        asked = {texts_of(question) for question in server.questions}
        assert {(b, a) for a, b in asked} == asked


@pytest.mark.parametrize("always", ["A", "B", "tie"])
def test_a_judge_that_prefers_a_position_gives_only_ties(always: str, tmp_path: Path) -> None:
    with judge_server(lambda question: rf"\boxed{{{always}}}") as server:
        assert rates(server, tmp_path, ["a", "bb", "ccc"]) == [0.5, 0.5, 0.5]


def test_equal_texts_tie_without_a_question(tmp_path: Path) -> None:
    with judge_server(longer) as server:
        assert rates(server, tmp_path, ["a", "a", "aa"]) == [0.25, 0.25, 1.0]
        assert len(server.questions) == 2  # the two texts, in both orders


def test_answers_may_be_compared_with_the_reference(tmp_path: Path) -> None:
    prompt = replace(PROMPT, reference={"answer": "aaa"})
    with judge_server(longer) as server:
        found = rates(server, tmp_path, ["a", "aaaa", "aaa"], prompt, against="reference")
        assert found == [0.0, 1.0, 0.5]
        with pytest.raises(ValueError, match="prompt 7 of task 'toy' has no reference answer"):
            rates(server, tmp_path, ["a"], replace(PROMPT, reference={}), against="reference")


@pytest.mark.parametrize("count", [2, 3, 6, 7])
def test_every_answer_is_compared_with_as_many_rivals(count: int) -> None:
    assert sibling_pairs(count, None) == list(combinations(range(count), 2))
    for rivals in (1, 2, 9):
        pairs = sibling_pairs(count, rivals)
        met = [sum(i in pair for pair in pairs) for i in range(count)]
        assert len(set(met)) == 1
        assert met[0] == min(2 * rivals, count - 1)


@pytest.mark.parametrize(
    ("reply", "wins"),
    [
        (r"\boxed{A}", 1.0),
        (r"I like \boxed{A} more than \boxed{ B }", 0.0),
        (r"\boxed{Tie}", 0.5),
        (r"\boxed{A or B}", None),
        ("A", None),
        ("", None),
    ],
)
def test_a_choice_is_read_strictly(reply: str, wins: float | None) -> None:
    assert read_choice(reply) == wins
