r"""Preference: the share of comparisons that an answer wins.

Judges tend to prefer the first or the last text that they read, so each pair is asked about in both
orders, and a preference that changes with the order is half a win for each. Answers with the same text
are a tie, without a question.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from statistics import fmean

from unmask.configs.reward import PreferenceTerm
from unmask.rewards.answers import last_boxed
from unmask.rewards.judge import Judge
from unmask.rewards.question import fill, reference_text
from unmask.rewards.weighted import Answer, AnswerGroup
from unmask.types import Score

WINS = {"A": 1.0, "tie": 0.5, "B": 0.0}
TIE = 0.5


@dataclass(frozen=True, slots=True)
class Duel:
    """A comparison of an answer with another text.

    Attributes:
        answer: the answer.
        place: its index in its group.
        rival: the other text.
        rival_place: index of that in the group; None if it is not an answer of the group.
    """

    answer: Answer
    place: int
    rival: str
    rival_place: int | None = None


class Preference:
    """Win rates of answers, decided by a judge."""

    def __init__(self, config: PreferenceTerm, judge: Judge) -> None:
        """Set the term's keys and the judge."""
        self._config, self._judge = config, judge

    def __call__(self, groups: Sequence[AnswerGroup]) -> list[list[Score]]:
        """Return the share of comparisons that each answer wins."""
        duels = [self._duels(group) for group in groups]
        wins = iter(self._wins([duel for of_group in duels for duel in of_group]))
        rates: list[list[Score]] = []
        for group, of_group in zip(groups, duels, strict=True):
            won: list[list[float]] = [[] for _ in group]
            for duel in of_group:
                share = next(wins)
                won[duel.place].append(share)
                if duel.rival_place is not None:
                    won[duel.rival_place].append(1 - share)
            rates.append([Score(fmean(shares)) for shares in won])
        return rates

    def _duels(self, group: AnswerGroup) -> list[Duel]:
        """Return the comparisons of the answers to one prompt."""
        if self._config.against == "siblings":
            pairs = sibling_pairs(len(group), self._config.rivals)
            return [Duel(group[i], i, group[j].text, j) for i, j in pairs]
        prompt = group[0].prompt
        rival = reference_text(prompt)
        if not rival:
            raise ValueError(
                f'reward: against = "reference", but prompt {prompt.uid} of task {prompt.task!r} '
                'has no reference answer: compare with "siblings"'
            )
        return [Duel(answer, place, rival) for place, answer in enumerate(group)]

    def _wins(self, duels: Sequence[Duel]) -> list[float]:
        """Return the share of its two questions that the answer of each duel wins."""
        asked = [duel for duel in duels if duel.answer.text != duel.rival]
        orders = [(d, *pair) for d in asked for pair in permutations((d.answer.text, d.rival))]
        template = self._config.template
        questions = [fill(template, d.answer, first=one, second=two) for d, one, two in orders]
        votes = self._judge.ask(questions, read_choice)
        # votes[1::2] are of questions with the answer in second place: a win there is the rival's.
        shares = iter(
            (fmean(straight) + 1 - fmean(turned)) / 2
            for straight, turned in zip(votes[::2], votes[1::2], strict=True)
        )
        return [TIE if duel.answer.text == duel.rival else next(shares) for duel in duels]


def sibling_pairs(count: int, rivals: int | None) -> list[tuple[int, int]]:
    """Return the pairs of a group that are compared, each once, as indices.

    Args:
        count: number of answers in the group.
        rivals: each is compared with this many of the following ones, cyclically; None is all.
    """
    reach = count - 1 if rivals is None else min(rivals, count - 1)
    pairs = [(i, (i + d) % count) for i in range(count) for d in range(1, reach + 1)]
    return sorted({(min(pair), max(pair)) for pair in pairs})


def read_choice(reply: str) -> float | None:
    """Return the share that the first of two answers wins by a reply; None if it makes no choice."""
    boxed = (last_boxed(reply) or "").strip()
    return WINS.get(boxed if boxed in WINS else boxed.lower())
