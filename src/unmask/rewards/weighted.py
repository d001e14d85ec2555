"""What an answer earns: the weighted sum of terms, where the way to add them is decided.

A term sees whole groups, because a preference compares the answers to one prompt, and all groups of a
round at once, because a judge answers many questions at the same time. It returns a `Score` for each
answer: its own number, or one number per response token, and parts of it for the log.

    reward = sum of weight x number                         if every term is one number
    reward_j = sum of weight x number_j + number, on the    if a term has one number per token
               tokens j of the last denoising step

The second line is how the critic reads a reward that is one number (`trainers/critic.py`): every
token of the last step has it, and what a step earned is the mean over its tokens. There the number is
taken as it is, not compared with its group: the critic's value is what it is compared with. Without a
critic nothing reads one number per token, so such a reward is refused and never summed in silence.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite

from unmask.runs.trajectories import total_reward
from unmask.types import Prompt, Reward, Score, Trajectory

OUTCOME = "outcome"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a term is told of one trajectory.

    Attributes:
        trajectory: the response and the order in which it was revealed.
        text: the response as text, as the task's grader read it.
        outcome: what that grader said.
    """

    trajectory: Trajectory
    text: str
    outcome: Score

    @property
    def prompt(self) -> Prompt:
        """The question answered."""
        return self.trajectory.prompt

    @property
    def outcome_reward(self) -> float:
        """The grader's reward as one number."""
        return total_reward(self.outcome.reward, self.trajectory.step_map)


AnswerGroup = Sequence[Answer]
ScoreFunction = Callable[[Sequence[AnswerGroup]], list[list[Score]]]


def outcome_alone(groups: Sequence[AnswerGroup]) -> list[list[Score]]:
    """Return what the task's grader said, its parts included: what evaluation looks at."""
    return [[answer.outcome for answer in group] for group in groups]


def score_outcome(groups: Sequence[AnswerGroup]) -> list[list[Score]]:
    """Return the grader's reward as a term."""
    return [[Score(answer.outcome.reward) for answer in group] for group in groups]


@dataclass(frozen=True, slots=True)
class WeightedTerm:
    """A term of a reward.

    Attributes:
        name: what its number is called among the parts.
        weight: what its number is multiplied by.
        score: says what each answer earns of it.
    """

    name: str
    weight: float
    score: ScoreFunction


@dataclass(frozen=True, slots=True)
class Combination:
    """A reward of several terms.

    Attributes:
        terms: in the order they are asked.
        has_critic: whether one number per token can be trained on.
    """

    terms: tuple[WeightedTerm, ...]
    has_critic: bool

    def __call__(self, groups: Sequence[AnswerGroup]) -> list[list[Score]]:
        """Return the reward of each answer; its parts are the grader's, and every term's own number.

        Raises:
            ValueError: a term's number is not finite or cannot stand on its response; or two parts
                have one name.
        """
        of_terms = [term.score(groups) for term in self.terms]
        return [
            [
                self._combine(answer, [scores[g][i] for scores in of_terms])
                for i, answer in enumerate(group)
            ]
            for g, group in enumerate(groups)
        ]

    def _combine(self, answer: Answer, scores: Sequence[Score]) -> Score:
        for term, score in zip(self.terms, scores, strict=True):
            check_reward(score.reward, answer.trajectory, f"{term.name!r} ")
        return Score(self._sum(answer, scores), self._parts(answer, scores))

    def _sum(self, answer: Answer, scores: Sequence[Score]) -> Reward:
        number = 0.0
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
                "critic can use: set value.enabled = true"
            )
        per_token = [sum(values) for values in zip(*vectors, strict=True)]
        return add_on_last_step(per_token, number, answer.trajectory.step_map)

    def _parts(self, answer: Answer, scores: Sequence[Score]) -> dict[str, float]:
        own = {OUTCOME: answer.outcome_reward}
        own |= {
            term.name: total_reward(score.reward, answer.trajectory.step_map)
            for term, score in zip(self.terms, scores, strict=True)
        }
        for term, score in zip(self.terms, scores, strict=True):
            for part, value in score.parts.items():
                name = f"{term.name}_{part}"
                if name in own:
                    raise ValueError(
                        f"reward: a term and a part of term {term.name!r} are both called {name!r}: "
                        "give the one another name"
                    )
                own[name] = value
        if shared := sorted(own.keys() & answer.outcome.parts.keys()):
            raise ValueError(
                f"reward: a term and the grader of task {answer.prompt.task!r} both have a part "
                f"{shared[0]!r}: give the term another name"
            )
        return {**answer.outcome.parts, **own}


def add_on_last_step(
    per_token: Sequence[float], number: float, step_map: Sequence[int]
) -> tuple[float, ...]:
    """Add a number to each response token that the response's last denoising step revealed.

    Args:
        per_token: `R` numbers.
        number: what is added.
        step_map: of the trajectory, at least `R` long.
    """
    steps = step_map[: len(per_token)]
    last = max(steps)
    return tuple(
        value + number * (step == last) for value, step in zip(per_token, steps, strict=True)
    )


def check_reward(reward: Reward, trajectory: Trajectory, name: str = "") -> None:
    """Refuse a reward that cannot stand on its response.

    Args:
        reward: a number, or one per response token.
        trajectory: the response.
        name: which reward, for the message.

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
