"""The text of a growing response, piece by piece, in time linear in its tokens.

A tokenizer decodes tokens together, not one by one: a character may be spread over several tokens, and
the first token of a text may lose its leading space. So each call decodes a bounded window: the new
tokens behind a few that were decoded before.
"""

from collections.abc import Callable, Sequence
from typing import Self

from unmask.sampling_params import SamplingParams

REPLACEMENT = "\ufffd"  # what a decoder puts in the place of an incomplete or broken character
MAX_OPEN = 3  # bytes of an incomplete character at most, each of them one replacement character
CONTEXT = 16  # tokens kept: all of the open character and of the broken ones before it
TOKENS_PER_CHARACTER = 4  # a character has four bytes at most, and a token one at least


class TextStream:
    """Decodes tokens as they come.

    The pieces, joined, are a prefix of `decode` of all the tokens. (Decoders with byte fallback may
    rewrite characters behind which a broken one follows; a piece that was returned stays.)
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], num_held: int = 0) -> None:
        """Start an empty text.

        Args:
            decode: token ids to text.
            num_held: characters at the end that are not returned yet, because a stop text may begin
                with them.
        """
        self._decode = decode
        self._num_held = num_held
        self._context = CONTEXT + TOKENS_PER_CHARACTER * num_held
        self._window: list[int] = []
        self._num_returned = 0  # leading characters of the window's text
        self._num_chars = 0  # of all pieces

    @classmethod
    def of(cls, decode: Callable[[Sequence[int]], str], sampling: SamplingParams | None) -> Self:
        """Return the empty text of a response, which holds back what its stop texts may begin with."""
        return cls(decode, max(map(len, sampling.stop), default=1) - 1 if sampling else 0)

    def add(self, token_ids: Sequence[int]) -> str:
        """Return the text that is certain now and was not before."""
        self._window += token_ids
        text = self._decode(self._window)
        num_open = len(text) - len(text.rstrip(REPLACEMENT))
        end = len(text) - min(num_open, MAX_OPEN) - self._num_held
        piece = text[self._num_returned : max(end, self._num_returned)]
        self._num_returned += len(piece)
        self._num_chars += len(piece)
        self._shorten(text)
        return piece

    def rest(self, text: str) -> str:
        """Return what is left of the whole text behind the pieces."""
        return text[self._num_chars :]

    def _shorten(self, text: str) -> None:
        """Drop leading tokens where what remains decodes to the end of the same text."""
        last = len(self._window) - self._context
        # Inside a character the rest decodes to something else: its first token is at most 3 before.
        for first in range(last, max(last - TOKENS_PER_CHARACTER, 0), -1):
            rest = self._decode(self._window[first:])
            num_returned = self._num_returned - (len(text) - len(rest))
            if text.endswith(rest) and num_returned >= 0:
                self._window, self._num_returned = self._window[first:], num_returned
                return
