"""Texts that end a response, looked for in what is decided each time a block is finished.

The text that is searched holds special tokens, which a response's own text leaves out: there each of
them is one character that no decoder gives (a lone surrogate). A stop text is a regular expression over
it. Where the stop text spells a special token, that token matches as well as ordinary text that spells
the same; elsewhere special tokens are passed over, as in the response's own text. So a special token
matches whole or not at all.

Only what may hold a stop text that was not there before is decoded, so the cost of a response grows
with its length, not with its square.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

from unmask.engine.host_state import Books
from unmask.engine.scheduler import Running
from unmask.engine.sequence_state import Slots

ANY_SPECIAL = "[\ud800-\udfff]*"
OTHER_SPECIAL = "\udfff"  # stands for a special token that no stop text spells
TOKENS_PER_CHARACTER = 4  # a character has four bytes at most, and a token one at least


class StopTexts:
    """The stop texts of a request, as a pattern over a response's text with its special tokens."""

    def __init__(
        self,
        stops: Sequence[str],
        decode: Callable[[Sequence[int]], str],
        special: Mapping[int, str],
    ) -> None:
        """Build the pattern.

        Args:
            stops: at least one.
            decode: token ids to text, without special tokens.
            special: id and text of each special token.
        """
        spelled = sorted({t for t in special.values() if t and any(t in stop for stop in stops)})
        marks = {text: chr(0xD800 + index) for index, text in enumerate(spelled)}
        self._marks = {i: marks.get(text, OTHER_SPECIAL) for i, text in special.items()}
        self._pattern = re.compile("|".join(_pattern(stop, marks) for stop in stops))
        self._reach = TOKENS_PER_CHARACTER * (1 + max(map(len, stops)))
        self._decode = decode

    def length(self, token_ids: Sequence[int], num_read: int = 0) -> int:
        """Return how many tokens it takes for a stop text to stand there; 0 if none does.

        Args:
            token_ids: of the response so far.
            num_read: leading tokens that hold no stop text.
        """
        first, left = num_read, self._reach
        while first and left:
            first -= 1
            left -= token_ids[first] not in self._marks
        if not self._is_in(token_ids[first:]):
            return 0
        lengths = range(num_read + 1, len(token_ids))
        # A text that holds a stop text holds it still when it goes on.
        return lengths.start + bisect_left(
            lengths, True, key=lambda end: self._is_in(token_ids[first:end])
        )

    def text_before(self, token_ids: Sequence[int]) -> str:
        """Return a response's text up to the first stop text, without special tokens."""
        text = self._read(token_ids)
        found = self._pattern.search(text)
        if found is None:
            return self._decode(token_ids)
        counts = range(len(token_ids) + 1)
        # The last token that begins left of the stop text may be cut.
        whole = bisect_right(counts, found.start(), key=lambda n: len(self._read(token_ids[:n])))
        before = token_ids[: whole - 1]
        return self._decode(before) + text[len(self._read(before)) : found.start()]

    def _is_in(self, token_ids: Sequence[int]) -> bool:
        return self._pattern.search(self._read(token_ids)) is not None

    def _read(self, token_ids: Sequence[int]) -> str:
        """Return the text of token ids, each special token as one character."""
        runs = ((mark, list(run)) for mark, run in groupby(token_ids, key=self._marks.get))
        return "".join(mark * len(run) if mark else self._decode(run) for mark, run in runs)


def _pattern(stop: str, marks: Mapping[str, str]) -> str:
    """Return what a stop text is in a text where special tokens are `marks`."""
    # A longer special token first: one may begin as another does.
    names = "|".join(map(re.escape, sorted(marks, key=len, reverse=True)))
    parts = [part for part in re.split(f"({names})", stop) if part] if names else [stop]
    return ANY_SPECIAL.join(
        f"(?:{marks[part]}|{_spelled(part)})" if part in marks else _spelled(part) for part in parts
    )


def _spelled(text: str) -> str:
    return ANY_SPECIAL.join(map(re.escape, text))


def find_stop_texts(
    slots: Slots,
    books: Books,
    running: Mapping[int, Running],
    stop_texts: Callable[[tuple[str, ...]], StopTexts] | None,
) -> list[int]:
    """End the responses in which a stop text has come up, and return their slots.

    Args:
        slots: the state, changed in place.
        books: what the host has of it.
        running: slot to request.
        stop_texts: from the stop texts of a request; `None` where no request has any.
    """
    ended: list[int] = []
    for slot, run in running.items():
        sampling = run.request.sampling
        if not sampling.stop or not books.knows(slot, running):
            continue
        first = len(run.request.prompt.token_ids)
        num_decided = min(books.end_of(slot, first) - first, sampling.max_tokens)
        if num_decided <= run.num_read:
            continue
        assert stop_texts is not None
        token_ids = slots.tokens[slot, first : first + num_decided].tolist()
        length = stop_texts(sampling.stop).length(token_ids, run.num_read)
        run.num_read = num_decided
        if length:
            slots.num_response[slot], slots.is_stop[slot] = length, True
            slots.active[slot] = False
            ended.append(slot)
    return ended
