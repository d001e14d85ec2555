"""Stop texts: strings that end a response, searched for each time a block is finished.

The searched text contains special tokens, which the response's text leaves out: each is one character
that no decoder returns (a lone surrogate). A stop text is a regular expression over it. Where the stop
text spells a special token, that token matches as well as ordinary tokens that spell the same; elsewhere
special tokens are passed over. So a special token matches whole or not at all.

Each time a block is finished, its tokens are decoded behind a bounded number of earlier ones, so the
cost of a response is linear in its length.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import groupby

from unmask.checkpoints.tokenizer import Tokenizer, decode, special_tokens
from unmask.engine.scheduler import Running
from unmask.engine.sequence_state import SequenceState

ANY_SPECIAL = "[\ud800-\udfff]*"
OTHER_SPECIAL = "\udfff"  # stands for a special token that no stop text spells
# Characters at the start of a window that may differ from the whole text: up to three bytes of a
# character that began before, or the mark of a word's continuation.
GARBLED = 3
OPEN = 3  # characters that stand for the bytes of one that new tokens may complete, at the end


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
        self._overlap = max(map(len, stops)) - 1  # characters of a stop text before the new tokens
        self._decode = decode

    def length(self, token_ids: Sequence[int], num_read: int = 0) -> int:
        """Return the length of the shortest prefix that contains a stop text; 0 if there is none.

        Args:
            token_ids: the response so far.
            num_read: length of a prefix that is known to contain none.
        """
        first = self._window_start(token_ids, num_read)
        skipped = GARBLED if first else 0

        def holds_stop(end: int) -> bool:
            return self._pattern.search(self._read(token_ids[first:end]), skipped) is not None

        if not holds_stop(len(token_ids)):
            return 0
        lengths = range(num_read + 1, len(token_ids))
        # Longer prefixes contain every stop text of shorter ones, so bisection applies.
        return lengths.start + bisect_left(lengths, True, key=holds_stop)

    def _window_start(self, token_ids: Sequence[int], num_read: int) -> int:
        """Return the first token of a window whose text up to `num_read` ends as the whole text does.

        Special tokens, and tokens without text, do not count: a stop text passes over them.
        """
        needed = self._overlap + OPEN
        width = GARBLED + needed
        while width < num_read:
            text = self._read(token_ids[num_read - width : num_read])[GARBLED:]
            if sum(not "\ud800" <= character <= "\udfff" for character in text) >= needed:
                return num_read - width
            width *= 2
        return 0

    def text_before(self, token_ids: Sequence[int]) -> str:
        """Return the text before the first stop text, without special tokens."""
        text = self._read(token_ids)
        found = self._pattern.search(text)
        if found is None:
            return self._decode(token_ids)

        def num_characters(count: int) -> int:
            return len(self._read(token_ids[:count]))

        # The stop text may begin inside a token, which is then cut. That token is near the end: search
        # backwards in growing steps, so that few prefixes are decoded.
        low, step = len(token_ids), 1
        while low and num_characters(low) > found.start():
            low, step = max(0, low - step), 2 * step
        counts = range(low, len(token_ids) + 1)
        whole = low + bisect_right(counts, found.start(), key=num_characters)
        before = token_ids[: whole - 1]
        return self._decode(before) + text[len(self._read(before)) : found.start()]

    def _read(self, token_ids: Sequence[int]) -> str:
        """Return the text of token ids, each special token as one character."""
        runs = ((mark, list(run)) for mark, run in groupby(token_ids, key=self._marks.get))
        return "".join(mark * len(run) if mark else self._decode(run) for mark, run in runs)


def _pattern(stop: str, marks: Mapping[str, str]) -> str:
    """Return the pattern of a stop text in a text where special tokens are `marks`."""
    # Longer special tokens first: one may be the beginning of another.
    names = "|".join(map(re.escape, sorted(marks, key=len, reverse=True)))
    parts = [part for part in re.split(f"({names})", stop) if part] if names else [stop]
    return ANY_SPECIAL.join(
        f"(?:{marks[part]}|{_spelled(part)})" if part in marks else _spelled(part) for part in parts
    )


def _spelled(text: str) -> str:
    return ANY_SPECIAL.join(map(re.escape, text))


def find_stop_texts(
    state: SequenceState,
    running: Mapping[int, Running],
    fresh: Mapping[int, int],
    stop_texts: Callable[[tuple[str, ...]], StopTexts] | None,
) -> list[int]:
    """End the responses that contain a stop text, and return their sequence indices.

    Args:
        state: the running sequences, changed in place.
        running: sequence index to request.
        fresh: from `read_committed`.
        stop_texts: builds the pattern of a request's stop texts; `None` where no request has any.
    """
    ended: list[int] = []
    for index, num_read in fresh.items():
        run = running[index]
        if not run.request.sampling.stop:
            continue
        assert stop_texts is not None
        length = stop_texts(run.request.sampling.stop).length(run.committed, num_read)
        if length:
            state.num_response[index], state.is_stop[index] = length, True
            state.active[index] = False
            ended.append(index)
    return ended


def stop_texts_of(tokenizer: Tokenizer) -> Callable[[tuple[str, ...]], StopTexts]:
    """Return what builds the pattern of a request's stop texts."""
    special, decode_ids = special_tokens(tokenizer), partial(decode, tokenizer=tokenizer)
    # Cached, because many requests have the same stop texts.
    return lru_cache(maxsize=64)(lambda stops: StopTexts(stops, decode_ids, special))
