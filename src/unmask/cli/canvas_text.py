"""The canvas of a response in a terminal while it is written: tokens where they are revealed.

A hidden position is one dim block, the tokens of the last step drawn are bold. Tokens are decoded run by run, so that a
character of several tokens may show as broken until all of them are there. Control characters are drawn
as pictures.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from itertools import groupby
from time import monotonic

from rich.console import Console
from rich.live import Live
from rich.text import Text

from unmask.diffusion.conventions import Conventions
from unmask.engine.events import Written
from unmask.runs.print import visible
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt

FRAME_S = 1 / 30
HIDDEN = "░"


class CanvasText:
    """The tokens of a canvas, by position."""

    def __init__(self, prompt: Prompt, sampling: SamplingParams, conventions: Conventions) -> None:
        """Begin with a hidden canvas.

        Args:
            prompt: with `token_ids`.
            sampling: as the engine resolves it.
            conventions: the model's.
        """
        assert sampling.block_size is not None
        self._block, self._max_tokens = sampling.block_size, sampling.max_tokens
        self._conventions = conventions
        # Prompt tokens in the first block.
        self._num_before = len(prompt.token_ids) % self._block
        self._tokens: dict[int, int] = {}
        self._newest: set[int] = set()

    def take(self, event: Written) -> None:
        """Lay the writes of a denoising step over the canvas."""
        for position, token in zip(event.positions, event.token_ids, strict=True):
            if token == self._conventions.mask_id:
                self._tokens.pop(position, None)
            else:
                self._tokens[position] = token
                self._newest.add(position)

    def __len__(self) -> int:
        """Return the number of positions up to the end of the last block that holds a token."""
        if self._conventions.is_full:
            return self._max_tokens
        last = self._num_before + max(self._tokens, default=0)
        return (last // self._block + 1) * self._block - self._num_before

    def draw(self, decode: Callable[[Sequence[int]], str], hidden: str = HIDDEN) -> Text:
        """Return the canvas; tokens written since the last call are bold."""
        text = Text()

        def style(position: int) -> str:
            if position not in self._tokens:
                return "dim"
            return "bold" if position in self._newest else ""

        for kind, run in groupby(range(len(self)), key=style):
            if kind == "dim":
                text.append(hidden * len([*run]), kind)
            else:
                text.append(printable(decode([self._tokens[place] for place in run])), kind)
        self._newest.clear()
        return text


def printable(text: str) -> str:
    """Return a text that a terminal shows as it is: tabs become spaces, other controls pictures."""
    return visible(text.expandtabs(4))


@contextmanager
def drawn(
    canvas: CanvasText, decode: Callable[[Sequence[int]], str], console: Console
) -> Generator[Callable[[Written], None]]:
    """Draw a canvas in place and yield the function that takes its writes; at the end, remove the drawing.

    Args:
        canvas: the canvas.
        decode: token ids to text.
        console: of a terminal; what does not fit its height is cut off at the top.
    """
    hidden = HIDDEN if console.encoding.startswith("utf") else "."
    last = 0.0
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def frame() -> None:
            lines = canvas.draw(decode, hidden).wrap(console, console.width)
            live.update(Text("\n").join(lines[-max(console.height - 2, 1) :]), refresh=True)

        def take(event: Written) -> None:
            nonlocal last
            canvas.take(event)
            # Between two frames nothing is drawn, so that drawing does not slow the model down.
            if monotonic() - last >= FRAME_S:
                frame()
                last = monotonic()

        frame()
        yield take
