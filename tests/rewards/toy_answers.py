"""Hand-made answers, without a model."""

from collections.abc import Sequence
from dataclasses import replace

from tests.rollouts.toy_groups import trajectory
from unmask.rewards.weighted import Answer
from unmask.types import Message, Prompt, Score

PROMPT = Prompt("toy", 7, (Message("user", "1+1="),), (2, 3), {"answer": "2"})


def answer(
    text: str = "2", length: int = 4, steps: int = 2, outcome: float = 1.0, prompt: Prompt = PROMPT
) -> Answer:
    """Return an answer of `length` tokens in `steps` denoising steps."""
    return Answer(trajectory(prompt, length, steps), text, Score(outcome))


def with_steps(step_map: Sequence[int], text: str = "2", outcome: float = 1.0) -> Answer:
    """Return an answer whose tokens were revealed at these steps."""
    found = answer(text, len(step_map), outcome=outcome)
    return replace(found, trajectory=replace(found.trajectory, step_map=(*step_map, 0)))
