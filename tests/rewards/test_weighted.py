"""The sum of reward terms, and terms that are refused instead of summed."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import nan
from statistics import pstdev
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.rewards.toy_answers import answer, with_steps
from unmask.configs.reward import SpeedTerm
from unmask.images import Image
from unmask.objectives.value import number_steps, step_means, step_returns
from unmask.rewards.speed import score_speed
from unmask.rewards.weighted import (
    AnswerGroup,
    Combination,
    ScoreFunction,
    WeightedTerm,
    add_on_last_step,
    outcome_alone,
    score_outcome,
    standardized,
)
from unmask.runs.trajectories import total_reward
from unmask.types import Reward, Score


def always(reward: Reward, **parts: float) -> ScoreFunction:
    def term(groups: Sequence[AnswerGroup]) -> list[list[Score]]:
        return [[Score(reward, parts) for _ in group] for group in groups]

    return term


def combined(*terms: WeightedTerm, has_critic: bool = True) -> Combination:
    return Combination(terms, has_critic)


def test_numbers_are_weighted_and_every_term_is_a_part() -> None:
    reward = combined(
        WeightedTerm("outcome", 1.0, score_outcome),
        WeightedTerm("a", 0.5, always(3.0, extra=9.0)),
        WeightedTerm("b", -2.0, always(0.25)),
        has_critic=False,
    )
    scores = reward([[answer(outcome=0.0), answer(outcome=1.0)], [answer(outcome=0.5)]])
    assert [[s.reward for s in group] for group in scores] == [[1.0, 2.0], [1.5]]
    assert scores[0][1].parts == {"outcome": 1.0, "a": 3.0, "a_extra": 9.0, "b": 0.25}


def test_the_outcome_is_a_part_even_if_it_is_no_term() -> None:
    ((score,),) = combined(WeightedTerm("a", 1.0, always(3.0)))([[answer(outcome=0.25)]])
    assert (score.reward, score.parts) == (3.0, {"outcome": 0.25, "a": 3.0})


def test_outcome_alone_returns_the_scores_of_the_grader() -> None:
    asked = answer(outcome=0.75)
    assert outcome_alone([[asked]]) == [[asked.outcome]]


def test_a_single_number_is_added_on_the_last_denoising_step() -> None:
    reward = combined(
        WeightedTerm("outcome", 1.0, score_outcome),
        WeightedTerm("p", 0.5, always((2.0, 0.0, -2.0, 4.0))),
    )
    ((score,),) = reward([[with_steps([1, 3, 2, 3], outcome=1.0)]])
    assert score.reward == (1.0, 1.0, -1.0, 3.0)
    assert score.parts["p"] == 2.0 - 2.0 + 2.0  # what its steps earned
    assert total_reward(score.reward, (1, 3, 2, 3)) == 1.0 + 0.5 * score.parts["p"]


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=12),
    st.data(),
    st.floats(-9, 9).map(lambda x: round(x, 3)),
)
def test_a_number_on_the_last_step_adds_exactly_itself(
    steps: list[int], data: Any, number: float
) -> None:
    rewards = data.draw(
        st.lists(st.integers(-4, 4), min_size=len(steps), max_size=len(steps)).map(tuple)
    )
    laid = add_on_last_step(rewards, number, steps)
    assert total_reward(laid, steps) == pytest.approx(total_reward(rewards, steps) + number)
    assert [
        now
        for now, before, step in zip(laid, rewards, steps, strict=True)
        if step < max(steps) and now != before
    ] == []


def test_one_number_per_token_without_a_critic_is_refused_and_never_summed() -> None:
    reward = combined(WeightedTerm("p", 1.0, always((1.0,) * 4)), has_critic=False)
    with pytest.raises(ValueError, match=r"one number per token.*advantage\.kind = value"):
        reward([[answer()]])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (nan, "is nan: a reward must be finite"),
        ((0.0, 1.0), "has 2 numbers for 4 response tokens"),
        ((0.0, 0.0, nan, 0.0), "is nan"),
    ],
)
def test_a_term_that_makes_no_reward_is_named(wrong: Reward, said: str) -> None:
    with pytest.raises(ValueError, match=f"the reward 'p' of a response to prompt 7 .*{said}"):
        combined(WeightedTerm("p", 1.0, always(wrong)))([[answer()]])


def test_two_parts_of_one_name_are_refused() -> None:
    asked = answer()
    graded = type(asked)(asked.trajectory, asked.text, Score(1.0, {"a": 0.5}))
    with pytest.raises(ValueError, match=r"grader of task 'toy' both have a part 'a'"):
        combined(WeightedTerm("a", 1.0, always(1.0)))([[graded]])


def test_a_term_called_like_another_ones_part_is_refused() -> None:
    terms = (WeightedTerm("a", 1.0, always(1.0, b=0.5)), WeightedTerm("a_b", 1.0, always(2.0)))
    for order in (terms, terms[::-1]):
        with pytest.raises(ValueError, match=r"a part of term 'a' are both named 'a_b'"):
            combined(*order)([[answer()]])


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(1, 40), st.integers(1, 40)), min_size=2, max_size=8
    ),
    st.sampled_from([0.1, 1.0, 7.0]),
)
def test_a_faster_wrong_answer_never_beats_a_slower_right_one(
    drawn: list[tuple[bool, int, int]], weight: float
) -> None:
    group = [
        answer(length=length, steps=min(steps, length), outcome=float(is_right))
        for is_right, length, steps in drawn
    ]
    config = SpeedTerm() if weight == 0.1 else SpeedTerm(weight=weight)
    term = partial(score_speed, right_from=config.right_from, full_at=config.full_at)
    reward = combined(
        WeightedTerm("outcome", 1.0, score_outcome), WeightedTerm("speed", config.weight, term)
    )
    (scores,) = reward([group])
    right = [s.reward for s, a in zip(scores, group, strict=True) if a.outcome_reward == 1.0]
    wrong = [s.reward for s, a in zip(scores, group, strict=True) if a.outcome_reward != 1.0]
    assert not right or not wrong or min(right) > max(wrong)
    assert all(0 <= s.parts["speed"] <= 1 for s in scores)


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(-4, 4)), min_size=1, max_size=12))
def test_a_reward_as_one_number_is_the_return_the_critic_starts_from(
    drawn: list[tuple[int, int]],
) -> None:
    steps, rewards = zip(*drawn, strict=True)
    numbers = number_steps(torch.tensor([steps]))
    means = step_means(torch.tensor([rewards], dtype=torch.float64), numbers)
    wanted = float(step_returns(means, gamma=1.0)[0, 0])
    assert total_reward(tuple(map(float, rewards)), steps) == pytest.approx(wanted)


def test_a_term_of_texts_refuses_an_answer_that_is_an_image() -> None:
    drawn = replace(answer(), drawing=Image("drawn.png", b"x"))
    of_texts = WeightedTerm("b", 1.0, always(2.0), reads_drawings=False)
    terms = (WeightedTerm("a", 1.0, always(1.0)), of_texts)
    assert combined(*terms)([[answer()]])[0][0].reward == 3.0
    with pytest.raises(
        ValueError, match="'b' scores texts, and a response to task 'toy' is an image"
    ):
        combined(*terms)([[answer(), drawn]])
    assert combined(terms[0])([[drawn]])[0][0].reward == 1.0


def numbered(*numbers: Reward) -> ScoreFunction:
    """Return a term whose answers of each group earn these numbers, in order."""

    def term(groups: Sequence[AnswerGroup]) -> list[list[Score]]:
        return [[Score(number) for number in numbers[: len(group)]] for group in groups]

    return term


def test_a_standardized_term_is_compared_with_its_group_and_keeps_its_number() -> None:
    group = [answer(), answer(), answer()]
    scores = combined(WeightedTerm("a", 2.0, standardized(numbered(1.0, 3.0, 8.0))))(
        [group, group[:2]]
    )
    spread = pstdev([1.0, 3.0, 8.0])
    assert [s.reward for s in scores[0]] == pytest.approx([2 * (n - 4) / spread for n in (1, 3, 8)])
    assert [s.reward for s in scores[1]] == [-2.0, 2.0]
    assert scores[0][2].parts["a_raw"] == 8.0


def test_standardized_numbers_that_are_equal_are_0_and_one_per_token_is_refused() -> None:
    group = [answer(), answer()]
    ((first, second),) = combined(WeightedTerm("a", 1.0, standardized(numbered(0.3, 0.1 + 0.2))))(
        [group]
    )
    assert first.reward == second.reward == 0.0
    with pytest.raises(ValueError, match="set standardize = false"):
        standardized(numbered((1.0,) * 4, 2.0))([group])


def test_the_outcome_that_is_logged_is_the_graders_also_where_it_is_standardized() -> None:
    group = [answer(outcome=0.0), answer(outcome=1.0)]
    ((_, right),) = combined(WeightedTerm("outcome", 1.0, standardized(score_outcome)))([group])
    assert right.reward == 1.0 and right.parts["outcome"] == 1.0
