"""Pointwise scores: the scale, the votes, and replies that are none."""

from pathlib import Path
from typing import Any

import pytest

from tests.rewards.judge_server import endpoint, judge_server
from tests.rewards.toy_answers import answer
from unmask.configs.reward import JudgeTerm
from unmask.rewards.judge import Judge
from unmask.rewards.pointwise import PointwiseJudge, most_frequent


def boxed(value: object) -> str:
    return rf"<think>\boxed{{9}}</think> \boxed{{{value}}}"


def scores(place: Path, replies: list[str], texts: list[str], **changes: Any) -> list[Any]:
    votes = changes.pop("votes", 1)
    with judge_server(lambda question: boxed(5), plan=list(replies)) as server:  # type: ignore[arg-type]
        config = endpoint(server, votes=votes, concurrency=1)
        term = JudgeTerm(endpoint=config, **changes)
        judge = PointwiseJudge(term, Judge(config, place))
        (found,) = judge([[answer(text) for text in texts]])
        return [score.reward for score in found]


def test_a_score_is_scaled_to_between_0_and_1(tmp_path: Path) -> None:
    replies = [boxed(0), boxed(10), boxed("7.5")]
    assert scores(tmp_path, replies, ["a", "b", "c"]) == [0.0, 1.0, 0.75]
    assert scores(tmp_path / "low", [boxed(0)], ["a"], low=-2, high=2) == [0.5]


@pytest.mark.parametrize("bad", [boxed(11), boxed(-1), boxed("nan"), boxed("inf"), boxed("good")])
def test_a_number_out_of_range_is_no_reply(bad: str, tmp_path: Path) -> None:
    assert scores(tmp_path, [bad, boxed(10)], ["a"]) == [1.0]


def test_votes_are_combined_by_mean_or_majority(tmp_path: Path) -> None:
    replies = [boxed(10), boxed(10), boxed(4)]
    assert scores(tmp_path / "mean", replies, ["a"], votes=3) == [pytest.approx(0.8)]
    assert scores(tmp_path / "most", replies, ["a"], votes=3, combine="majority") == [1.0]
    assert most_frequent([1.0, 2.0, 2.0, 1.0, 3.0]) == [1.0, 2.0]
