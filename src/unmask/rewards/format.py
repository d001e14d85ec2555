"""Format as a reward: 1 for a response that matches a regular expression as a whole, else 0.

The expression is the user's own, and nothing limits the time of a match: one that backtracks
exponentially can block the run.
"""

import re
from collections.abc import Sequence

from unmask.rewards.weighted import AnswerGroup
from unmask.types import Score


def score_format(groups: Sequence[AnswerGroup], pattern: str) -> list[list[Score]]:
    """Return 1 for each response that has the format, else 0."""
    whole = re.compile(pattern, re.DOTALL)
    return [[Score(float(whole.fullmatch(a.text) is not None)) for a in group] for group in groups]
