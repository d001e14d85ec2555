"""The reward of an answer: a weighted sum of reward terms.

A term scores whole groups, because a preference compares the answers to one prompt, and all groups of
a round at once, because a judge answers many questions concurrently. It returns a `Score` for each
answer: one number, or one number per response token, and parts for the log.

    reward = sum of weight x number                         if every term is one number
    reward_j = sum of weight x number_j + number, on the    if a term has one number per token
               tokens j of the last denoising step

The second line is how the critic reads a reward that is one number (`trainers/critic.py`): each token
of the last step has it, and the reward of a step is the mean over its tokens. The number is not compared
with its group there; the critic's value takes the place of that baseline. Without a critic, one number
per token cannot be used, so such a reward raises an error.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress
from math import isclose, isfinite
from statistics import fmean, pstdev

from unmask.images import Image
from unmask.runs.trajectories import total_reward
from unmask.types import Prompt, Reward, Score, Trajectory

OUTCOME = "outcome"
# Part that is 1 where a term does not apply to an answer.
UNRATED = "unrated"


@dataclass(frozen=True, slots=True)
class Answer:
    """One response, as reward terms receive it.

    Attributes:
        trajectory: the response and the order in which it was revealed.
        text: the response as text, as the task's grader received it.
        outcome: the score of that grader.
        drawing: the image that the response is, where the model draws one (text-to-image).
    """

    trajectory: Trajectory
    text: str
    outcome: Score
    drawing: Image | None = None

    @property
    def prompt(self) -> Prompt:
        """The prompt that was answered."""
        return self.trajectory.prompt

    @property
    def outcome_reward(self) -> float:
        """The grader's reward as one number."""
        return total_reward(self.outcome.reward, self.trajectory.step_map)


AnswerGroup = Sequence[Answer]
ScoreFunction = Callable[[Sequence[AnswerGroup]], list[list[Score]]]


def outcome_alone(groups: Sequence[AnswerGroup]) -> list[list[Score]]:
    """Return the scores of the task's grader with their parts, as evaluation uses them."""
    return [[answer.outcome for answer in group] for group in groups]


def score_outcome(groups: Sequence[AnswerGroup]) -> list[list[Score]]:
    """Return the reward of the task's grader, without its parts."""
    return [[Score(answer.outcome.reward) for answer in group] for group in groups]


def standardized(score: ScoreFunction) -> ScoreFunction:
    """Return a term whose number is compared with those of the group's other answers: (number - mean) / std.

    The part `raw` keeps the number. An answer that a term does not apply to has 0 and is not compared. It is the
    per-reward normalisation of LightningRL (arXiv 2603.13319).
    """

    def compared(groups: Sequence[AnswerGroup]) -> list[list[Score]]:
        return [_standardized(group) for group in score(groups)]

    return compared


def _standardized(scores: Sequence[Score]) -> list[Score]:
    numbers = [score.reward for score in scores if not isinstance(score.reward, Sequence)]
    if len(numbers) < len(scores):
        raise ValueError(
            "reward: standardize compares one number per answer, and a term has one per token: set "
            "standardize = false"
        )
    is_rated = [not score.parts.get(UNRATED) for score in scores]
    rated = list(compress(numbers, is_rated)) or [0.0]
    mean, std = fmean(rated), pstdev(rated)
    # Numbers added up in different orders differ in their last bits; dividing by that is noise.
    is_uniform = isclose(min(rated), max(rated), rel_tol=1e-9)
    return [
        Score(
            (number - mean) / std if own and not is_uniform else 0.0, {**score.parts, "raw": number}
        )
        for number, score, own in zip(numbers, scores, is_rated, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class WeightedTerm:
    """A summand of a reward.

    Attributes:
        name: name of its number among the parts.
        weight: factor of its number.
        score: returns a score for each answer.
        reads_drawings: whether it scores answers that are images.
    """

    name: str
    weight: float
    score: ScoreFunction
    reads_drawings: bool = True


@dataclass(frozen=True, slots=True)
class Combination:
    """A reward of several terms.

    Attributes:
        terms: the summands, scored in this order.
        has_critic: whether one number per token can be trained on.
    """

    terms: tuple[WeightedTerm, ...]
    has_critic: bool

    def __call__(self, groups: Sequence[AnswerGroup]) -> list[list[Score]]:
        """Return the reward of each answer; its parts are the grader's and the number of each term.

        Raises:
            ValueError: a number is not finite, a term has another count of numbers than the response
                has tokens, or two parts have the same name; or an answer is an image, and a term reads texts.
        """
        drawn = next((a for group in groups for a in group if a.drawing is not None), None)
        text_terms = [term.name for term in self.terms if not term.reads_drawings]
        if drawn is not None and text_terms:
            raise ValueError(
                f"reward: {text_terms[0]!r} scores texts, and a response to task {drawn.prompt.task!r} is an "
                "image: take clip_score, judge or function"
            )
        of_terms = [term.score(groups) for term in self.terms]
        return [
            [self._combine(a, [scores[g][i] for scores in of_terms]) for i, a in enumerate(group)]
            for g, group in enumerate(groups)
        ]

    def _combine(self, answer: Answer, scores: Sequence[Score]) -> Score:
        for term, score in zip(self.terms, scores, strict=True):
            check_reward(score.reward, answer.trajectory, f"{term.name!r} ")
        return Score(self._sum(answer, scores), self._parts(answer, scores))

    def _sum(self, answer: Answer, scores: Sequence[Score]) -> Reward:
        number = 0.0  # added up in the order of the terms, so the last bits are always the same
        vectors: list[list[float]] = []
        for term, score in zip(self.terms, scores, strict=True):
            if isinstance(score.reward, Sequence):
                vectors.append([term.weight * value for value in score.reward])
            else:
                number += term.weight * score.reward
        if not vectors:
            return number
        if not self.has_critic:
            raise ValueError(
                f"the reward of task {answer.prompt.task!r} is one number per token, which only a "
                "value model can use: set advantage.kind = value"
            )
        # vectors: (terms, R); their sum over the terms is (R,)
        per_token = [sum(values) for values in zip(*vectors, strict=True)]
        return add_on_last_step(per_token, number, answer.trajectory.step_map)

    def _parts(self, answer: Answer, scores: Sequence[Score]) -> dict[str, float]:
        own = {OUTCOME: answer.outcome_reward}
        for term, score in zip(self.terms, scores, strict=True):
            if term.name != OUTCOME:  # the grader's own, also where the term is standardized
                own[term.name] = total_reward(score.reward, answer.trajectory.step_map)
        for term, score in zip(self.terms, scores, strict=True):
            for part, value in score.parts.items():
                name = f"{term.name}_{part}"
                if name in own:
                    raise ValueError(
                        f"reward: a term and a part of term {term.name!r} are both named {name!r}: "
                        "rename the term"
                    )
                own[name] = value
        if shared := sorted(own.keys() & answer.outcome.parts.keys()):
            raise ValueError(
                f"reward: a term and the grader of task {answer.prompt.task!r} both have a part "
                f"{shared[0]!r}: rename the term"
            )
        return {**answer.outcome.parts, **own}


def add_on_last_step(
    per_token: Sequence[float], number: float, step_map: Sequence[int]
) -> tuple[float, ...]:
    """Add a number to each response token that the response's last denoising step revealed.

    Args:
        per_token: `(R,)`.
        number: added to each of them.
        step_map: of the trajectory, `(C,)` with `C >= R`.
    """
    steps = step_map[: len(per_token)]  # (R,): canvas positions after the response are not rewarded
    last = max(steps)
    return tuple(own + number * (step == last) for own, step in zip(per_token, steps, strict=True))


def check_reward(reward: Reward, trajectory: Trajectory, name: str = "") -> None:
    """Check that a reward fits its response.

    Args:
        reward: a number, or one per response token.
        trajectory: the response.
        name: name of the reward, for the message.

    Raises:
        ValueError: it is not finite, or not one number per response token.
    """
    prompt = trajectory.prompt
    whose = f"the reward {name}of a response to prompt {prompt.uid} of task {prompt.task!r}"
    values = reward if isinstance(reward, Sequence) else (reward,)
    if isinstance(reward, Sequence) and len(reward) != trajectory.num_response:
        raise ValueError(
            f"{whose} has {len(reward)} numbers for {trajectory.num_response} response tokens: "
            "give one number, or one per token"
        )
    if wrong := [value for value in values if not isfinite(value)]:
        raise ValueError(f"{whose} is {wrong[0]}: a reward must be finite")
