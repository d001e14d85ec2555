"""What judges the responses of a task, and what ends the processes that it holds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unmask.configs.task import Extraction, VerifierConfig
from unmask.rewards.answers import answer_from_response
from unmask.rewards.custom import load_reward
from unmask.rewards.math import FACTORY
from unmask.rewards.workers import VerifierPool, score_from_verdict
from unmask.types import Prompt, Score


def _nothing_to_close() -> None:
    pass


def _all_fit(problems: Sequence[tuple[Mapping[str, Any], str | None]]) -> list[str]:
    return ["" for _ in problems]


@dataclass(frozen=True, slots=True)
class Grader:
    """A grader of `(prompt, response)` pairs.

    Attributes:
        grade: the scores of the pairs, in their order.
        close: ends the processes the grader holds; grading again starts them again.
        answer: the part of a response that it judges.
        find_unfit: for each problem (its reference, and a right response where one is published) why
            no response to it could be judged; an empty text where one can.
        isolation: how it locks in the programs that it runs; None where it runs none.
    """

    grade: Callable[[Sequence[tuple[Prompt, str]]], list[Score]]
    close: Callable[[], None] = _nothing_to_close
    answer: Callable[[str], str] = answer_from_response
    find_unfit: Callable[[Sequence[tuple[Mapping[str, Any], str | None]]], list[str]] = _all_fit
    isolation: str | None = None


def own_grader(reward: str | None) -> Grader | None:
    """Make the grader of a user's own `module:function`, which runs in this process; None where none is named."""
    if reward is None:
        return None
    function = load_reward(reward)
    return Grader(lambda items: [Score(function(prompt, response)) for prompt, response in items])


def math_grader(verifier: VerifierConfig, extraction: Extraction) -> Grader:
    """Make the grader that compares with the text `reference["answer"]` by `math-verify`, in worker processes."""
    pool = VerifierPool(
        FACTORY, {"extraction": extraction}, verifier.workers, verifier.time_limit_s
    )

    def grade(items: Sequence[tuple[Prompt, str]]) -> list[Score]:
        verdicts = pool.judge(
            [{"response": text, "gold": prompt.reference["answer"]} for prompt, text in items]
        )
        return [score_from_verdict(verdict, exact=True) for verdict in verdicts]

    return Grader(grade, pool.close)
