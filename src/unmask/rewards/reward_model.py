"""A scalar reward model as a reward term: its score of question and answer, by its own template and tokens.

The model is frozen; it runs on the policy's device or on another one.
"""

from collections.abc import Sequence

from unmask.checkpoints.reward_model import RewardModel
from unmask.rewards.weighted import Answer, AnswerGroup
from unmask.types import Message, Score


class RewardModelScores:
    """Scores of a reward model."""

    def __init__(self, model: RewardModel, token_budget: int) -> None:
        """Set the model and the tokens of a forward pass."""
        self._model, self._token_budget = model, token_budget

    def __call__(self, groups: Sequence[AnswerGroup]) -> list[list[Score]]:
        """Return the score of each answer."""
        texts = [self._model.tokenize(_messages(answer)) for group in groups for answer in group]
        scores = iter(self._model.score(texts, self._token_budget))
        return [[Score(next(scores)) for _ in group] for group in groups]


def _messages(answer: Answer) -> list[Message]:
    return [*answer.prompt.messages, Message("assistant", answer.text)]
