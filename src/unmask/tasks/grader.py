"""The record of a grader, and the graders by mathematics and by a user's own reward."""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unmask.configs.reward_function import OwnRewardConfig
from unmask.configs.task import Extraction, VerifierConfig
from unmask.rewards.answers import answer_from_response
from unmask.rewards.custom import load_reward
from unmask.rewards.other_libraries import Item, build_scorer
from unmask.sandbox.verifier_pool import VerifierPool, score_from_verdict
from unmask.types import Prompt, Score

# A name, because the module imports SymPy, which only the workers need.
FACTORY = "unmask.rewards.math:load_math_verifier"
# Golds that need no parser: reading a set of numbers then starts no worker.
PLAIN = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?|[A-Za-z]")
SHOWN = 5
Solved = tuple[Mapping[str, Any], str | None]


@dataclass(frozen=True, slots=True)
class Grader:
    """A grader of `(prompt, response)` pairs.

    Attributes:
        grade: returns the scores of the pairs, in their order.
        close: ends its processes; grading again starts them again.
        answer: returns the part of a response that it grades.
        find_unfit: for each problem (its reference, and a right response where one is published),
            returns the reason why no response to it can be graded; an empty string where one can.
        isolation: of the programs that it runs; None where it runs none.
        check: warns of references that it cannot use; called once with the name of a split and its
            prompts.
    """

    grade: Callable[[Sequence[tuple[Prompt, str]]], list[Score]]
    close: Callable[[], None] = lambda: None
    answer: Callable[[str], str] = answer_from_response
    find_unfit: Callable[[Sequence[Solved]], list[str]] = lambda problems: [""] * len(problems)
    isolation: str | None = None
    check: Callable[[str, Sequence[Prompt]], None] = lambda place, prompts: None


def own_grader(config: OwnRewardConfig) -> Grader | None:
    """Build the grader of a user's own function; None without one.

    It runs in this process, or in one of its own if it has the form of another library.
    """
    if config.reward is None:
        return None
    if config.reward_signature == "unmask":
        function = load_reward(config.reward)
        return Grader(
            lambda items: [Score(function(prompt, response)) for prompt, response in items]
        )
    form = config.reward, config.reward_signature, config.reward_time_limit_s
    scorer = build_scorer(*form, "task.reward", is_term=False)
    return Grader(lambda items: scorer.score([Item(*pair) for pair in items]), scorer.close)


def math_grader(verifier: VerifierConfig, extraction: Extraction) -> Grader:
    """Build the grader that compares with `reference["answer"]` as mathematics, in worker processes."""
    args = {"extraction": extraction}
    pool = VerifierPool(FACTORY, args, verifier.workers, verifier.time_limit_s)

    def grade(items: Sequence[tuple[Prompt, str]]) -> list[Score]:
        asked = [{"response": text, "gold": prompt.reference["answer"]} for prompt, text in items]
        verdicts = pool.grade(asked)
        return [score_from_verdict(verdict, exact=True) for verdict in verdicts]

    def check(place: str, prompts: Sequence[Prompt]) -> None:
        golds = [str(prompt.reference["answer"]) for prompt in prompts]
        asked = sorted({gold for gold in golds if not PLAIN.fullmatch(gold)})
        verdicts = pool.grade([{"gold": gold} for gold in asked]) if asked else []
        unread = {gold for gold, verdict in zip(asked, verdicts, strict=True) if not verdict.score}
        if unread:
            names = [repr(gold) for gold in dict.fromkeys(golds) if gold in unread]
            warnings.warn(
                f"{place}: {sum(gold in unread for gold in golds)} of {len(golds)} golds cannot be read "
                "as mathematics, so only a response of the same text is right: "
                f"{', '.join(names[:SHOWN])}{', ...' * (len(names) > SHOWN)}",
                stacklevel=2,
            )

    return Grader(grade, pool.close, check=check)
