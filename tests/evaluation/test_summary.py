"""Summaries worked out by hand."""

from typing import Any

import pytest

from unmask.evaluation.estimates import mean_interval, ratio_interval, wilson_interval
from unmask.evaluation.summary import Outcome, Response, histogram, outcome_of, speed_of, summarize


def response(
    outcome: Outcome = "correct", tokens: int = 4, steps: int = 2, answer: str = "", **more: Any
) -> Response:
    reward = float(outcome == "correct")
    return Response(reward, outcome, answer, tokens, steps, num_forwards=steps + 1, **more)


FAILED = Response(0.0, "failed")


def test_one_sample_per_problem_is_summarised_with_wilson() -> None:
    problems = [[response("correct", 4, 2)], [response("wrong", 8, 3)], [response("correct", 6, 1)]]
    summary = summarize(problems)
    assert (summary.n, summary.samples) == (3, 1)
    assert summary.accuracy == pytest.approx(2 / 3)
    assert summary.ci95 == wilson_interval(2, 3)
    assert summary.tokens_per_denoising_step == 18 / 6
    assert summary.tokens_per_denoising_step_ci95 == ratio_interval([4, 8, 6], [2, 3, 1])
    assert summary.response_tokens == 6.0
    assert summary.truncated == 0.0
    assert summary.pass_at == summary.majority_at == {}


def test_several_samples_are_averaged_per_problem_and_bootstrapped() -> None:
    right, wrong = response("correct", answer="a"), response("wrong", answer="b")
    summary = summarize([[right, wrong, right, right], [wrong] * 4, [right] * 4])
    assert (summary.n, summary.samples) == (3, 4)
    assert summary.accuracy == pytest.approx((0.75 + 0 + 1) / 3)
    assert summary.ci95 == mean_interval([0.75, 0.0, 1.0])
    assert summary.pass_at[4].value == pytest.approx(2 / 3)
    assert summary.majority_at[4].value == pytest.approx(2 / 3)
    # Of the six pairs of the first problem three are split, and count half.
    assert summary.majority_at[2].value == pytest.approx((0.75 + 0 + 1) / 3)
    assert summary.pass_at[2].ci95 == mean_interval([1.0, 0.0, 1.0])


def test_every_outcome_is_counted_and_only_full_reward_is_right() -> None:
    kinds: list[Outcome] = ["correct", "wrong", "timeout", "crash", "unfit", "failed"]
    summary = summarize([[response(kind)] for kind in kinds[:5]] + [[FAILED]])
    assert summary.outcomes == dict.fromkeys(kinds, 1)
    assert summary.accuracy == pytest.approx(1 / 6)
    assert outcome_of(1.0, {}) == "correct"
    assert outcome_of(0.999, {"graded": 0.999}) == outcome_of(2.0, {}) == "wrong"
    assert outcome_of(0.0, {"unfit": 1.0}) == "unfit"
    assert outcome_of(0.0, {"unfit": 0.0}) == "wrong"
    assert outcome_of(0.0, {"verifier_timeout": 1.0}) == "timeout"
    assert outcome_of(0.0, {"verifier_crash": 1.0, "verifier_timeout": 0.0}) == "crash"


def test_failed_responses_count_as_wrong_and_have_no_length() -> None:
    problems = [[response(tokens=6), FAILED], [FAILED, FAILED]]
    summary, speed = summarize(problems), speed_of([[response(tokens=6, wall_s=3.0), FAILED]])
    assert (summary.accuracy, summary.response_tokens) == (0.25, 6.0)
    assert (speed.forwards, speed.tokens_per_forward, speed.tokens_per_s) == (3.0, 2.0, 2.0)


def test_truncated_responses_are_counted() -> None:
    problems = [[response(finish="length"), response()], [response(), response()]]
    assert summarize(problems).truncated == 0.25


def test_speed_is_over_all_responses() -> None:
    problems = [[response(tokens=4, steps=1, wall_s=0.5)], [response(tokens=8, steps=3, wall_s=1)]]
    speed = speed_of(problems)
    assert (speed.wall_s, speed.tokens_per_s) == (1.5, 8.0)
    assert speed.tokens_per_forward == 2.0
    assert speed.tokens_per_forward_ci95 == ratio_interval([4, 8], [2, 4])


def test_the_histogram_holds_every_response_once() -> None:
    bins = histogram([response("wrong", tokens) for tokens in range(1, 101)] + [response(tokens=7)])
    assert sum(b.others for b in bins) == 100 and sum(b.right for b in bins) == 1
    assert (bins[0].first, bins[0].last, bins[-1].last) == (1, 5, 100)
    assert bins[1].right == 1
    assert [b.last + 1 for b in bins[:-1]] == [b.first for b in bins[1:]]
