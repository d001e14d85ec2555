"""A reward that breaks a run where an environment variable asks for it: `BREAK=raise:25` breaks the 25th call."""

import os
import signal
from itertools import count
from typing import Any

from tests.trainers.toy_runs import share_of_sevens
from unmask.types import Prompt

REWARD = "task.reward=tests.trainers.breaking:reward"
VARIABLE = "BREAK"
CALLS = {"count": count(1)}


def start_counting() -> None:
    """Count calls from one again, as a process of its own would."""
    CALLS["count"] = count(1)


def reward(prompt: Prompt, response: str) -> Any:
    """Reward sevens; at the call that is named raise, return what is no number or send this process a signal."""
    how, _, when = os.environ.get(VARIABLE, "").partition(":")
    if when and next(CALLS["count"]) == int(when):
        if how == "nan":
            return float("nan")
        if how == "shape":
            return [0.5, 0.5]
        if how == "raise":
            raise KeyError("no such answer")
        signal.raise_signal(signal.Signals[how])
    return share_of_sevens(prompt, response)
