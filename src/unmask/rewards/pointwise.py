r"""A judge's score of each answer by itself: the number in the last `\boxed{...}` of the reply.

A reply without a number in the stated range is invalid, and the judge is asked again.
"""

from collections import Counter
from collections.abc import Sequence
from math import isfinite
from statistics import fmean

from unmask.configs.reward import JudgeTerm
from unmask.rewards.answers import last_boxed
from unmask.rewards.judge import Judge
from unmask.rewards.question import fill
from unmask.rewards.weighted import AnswerGroup
from unmask.types import Score


class PointwiseJudge:
    """Scores of a judge, scaled to between 0 and 1."""

    def __init__(self, config: JudgeTerm, judge: Judge) -> None:
        """Set the term's keys and the judge."""
        self._config, self._judge = config, judge

    def __call__(self, groups: Sequence[AnswerGroup]) -> list[list[Score]]:
        """Return the score of each answer."""
        questions = [fill(self._config.template, answer) for group in groups for answer in group]
        votes = iter(self._judge.ask(questions, self._read))
        return [[self._score(next(votes)) for _ in group] for group in groups]

    def _read(self, reply: str) -> float | None:
        boxed = last_boxed(reply)
        try:
            number = float(boxed or "")
        except ValueError:
            return None
        in_range = isfinite(number) and self._config.low <= number <= self._config.high
        return number if in_range else None

    def _score(self, votes: Sequence[float]) -> Score:
        chosen = most_frequent(votes) if self._config.combine == "majority" else votes
        low, high = self._config.low, self._config.high
        return Score((fmean(chosen) - low) / (high - low))


def most_frequent(votes: Sequence[float]) -> list[float]:
    """Return the most frequent votes; several in case of a tie."""
    counts = Counter(votes)
    most = max(counts.values())
    return [vote for vote, count in counts.items() if count == most]
