"""The record of a task: prompts in three splits, and the grader they need.

A prompt's split and number follow from its text alone, by a hash that does not change from process
to process. So no prompt is in two splits, whatever the seed, the order or the number of problems
drawn, and no run tests a model on prompts that another run trained it on.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from unmask.configs.task import GeneratedTaskConfig
from unmask.rewards.answers import answer_from_response
from unmask.types import Image, Message, Prompt, Score, Split


@dataclass(frozen=True, slots=True)
class Task:
    """The prompts, and how responses to them are graded.

    Attributes:
        name: the name in logs and in `Prompt.task`.
        prompts: the prompts of a split, the same objects at every call; ValueError where there are
            none.
        demonstration: a right response to a prompt without its end-of-text token, for SFT; None
            where there is none.
        grade: returns the scores of `(prompt, response)` pairs, in their order.
        close: ends the grader's processes; grading again starts them again.
        alphabet: every character of the compact prompts and responses; None where any character may occur.
        answer: returns the part of a response that is graded; responses with equal answers agree (maj@k).
        left_out: returns name and reason of each problem of a split that is not among its prompts,
            because no response to it could be graded.
        isolation: of the programs that are run to grade; None where none are run.
    """

    name: str
    prompts: Callable[[Split], Sequence[Prompt]]
    demonstration: Callable[[Prompt], str | None]
    grade: Callable[[Sequence[tuple[Prompt, str]]], list[Score]]
    close: Callable[[], None] = lambda: None
    alphabet: str | None = None
    answer: Callable[[str], str] = answer_from_response
    left_out: Callable[[Split], Sequence[str]] = lambda split: ()
    isolation: str | None = None


NO_TASK = Task("none", prompts=lambda _: (), demonstration=lambda _: None, grade=lambda _: [])


def prompts_of_splits(
    config: GeneratedTaskConfig, draw: Callable[[], Mapping[Split, Sequence[Prompt]]]
) -> Callable[[Split], Sequence[Prompt]]:
    """Return `Task.prompts` of generated problems, which are drawn once, at its first call."""
    drawn = cache(draw)

    def prompts(split: Split) -> Sequence[Prompt]:
        if not drawn()[split]:
            raise ValueError(
                f"task.size = {config.size}, task.validation_share = {config.validation_share} and "
                f"task.test_share = {config.test_share} leave no {split} prompts of {config.name}"
            )
        return drawn()[split]

    return prompts


def prompt_from_text(
    task: str,
    text: str,
    reference: Mapping[str, Any],
    context: tuple[Message, ...] = (),
    images: tuple[Image, ...] = (),
) -> Prompt:
    """Make a prompt of a user message and the turns before it.

    It is numbered by a hash of its text and images (below 2**31).

    Raises:
        ValueError: the text has more or fewer markers than images.
    """
    messages = (*context, Message("user", text, images))
    parts = [part for turn in context for part in (turn.role, turn.content)]
    digests = [image.digest.hex() for turn in messages for image in turn.images]
    return Prompt(task, _hash("\0".join([*parts, text, *digests])) % 2**31, messages, (), reference)


def split_from_text(text: str, validation_share: float, test_share: float) -> Split:
    """Return the split of a prompt's text; shares are fractions of the distinct prompts."""
    # The high half of the hash: the low half is the prompt's number, which must not depend on the split.
    position = (_hash(text) >> 32) / 2**32
    if position < test_share:
        return "test"
    return "validation" if position < test_share + validation_share else "train"


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
