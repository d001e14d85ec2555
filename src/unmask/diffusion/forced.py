"""The order in which a model would have written a given response: decoding with the response's tokens forced.

In each denoising step the model scores the given token of every hidden position, and those of highest
probability are revealed, `ceil(K / S)` of each block, and in addition all above a threshold. Block-causal blocks
are independent, because the blocks before are clean and given: one pass takes a step of all of them. Under
full attention blocks are the order, counted from the response, and one is open at a time; everything
right of it is hidden. The first position of a block of a shifted model is revealed first and alone, as its
sampler does.

The step maps are those that trace SFT trains on (TraceRL, arXiv 2509.06949).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.diffusion.conventions import Conventions
from unmask.diffusion.views import Canvas, Views, views_under_noise

Pair = tuple[Sequence[int], Sequence[int]]
# Views to the log-probability of each target's token, `(N, C)` for every response.
ScoreFn = Callable[[Sequence[Views]], list[Tensor]]


@dataclass(frozen=True, slots=True)
class Pace:
    """How many positions of a block a denoising step reveals.

    Attributes:
        block: `K`; under full attention the blocks of the order.
        count: positions of a block revealed in one step, at least.
        threshold: probability above which a position is revealed as well; 1 is never passed.
    """

    block: int
    count: int = 1
    threshold: float = 1.0


def forced_step_maps(
    pairs: Sequence[Pair], score: ScoreFn, conventions: Conventions, pace: Pace, fewest: int = 0
) -> list[tuple[int, ...]]:
    """Return the denoising step, counted from 1, in which each token of each response is revealed.

    Args:
        pairs: prompts of `P` and responses of `R` token ids.
        score: the model's log-probabilities.
        conventions: of the model.
        pace: how fast a block is revealed.
        fewest: fewest positions of a canvas under full attention.
    """
    canvas = Canvas(pace.block, conventions.is_full, fewest)
    written = [_Forced.of(pair, conventions, pace, canvas) for pair in pairs]
    while open_now := [forced for forced in written if forced.is_hidden.any()]:
        scores = score([forced.views() for forced in open_now])
        for forced, found in zip(open_now, scores, strict=True):
            forced.reveal(found[0, : len(forced.step_map)])
    return [tuple(forced.global_steps().tolist()) for forced in written]


@dataclass(slots=True)
class _Forced:
    """A response while it is revealed; steps are counted within a block, then over the response.

    Attributes:
        blocks: `(R,)` the block of each position, from 0.
        is_alone: `(R,)` bool, positions that are revealed before the others of their block.
        step_map: `(R,)` the step in which each was revealed, 0 while it is hidden.
    """

    pair: Pair
    conventions: Conventions
    pace: Pace
    canvas: Canvas
    blocks: Tensor
    is_alone: Tensor
    step_map: Tensor

    @classmethod
    def of(cls, pair: Pair, conventions: Conventions, pace: Pace, canvas: Canvas) -> "_Forced":
        start = 0 if conventions.is_full else len(pair[0]) % pace.block
        position = torch.arange(start, start + len(pair[1]))
        is_alone = (position % pace.block == 0) & conventions.first_is_alone
        steps = torch.zeros_like(position)
        return cls(pair, conventions, pace, canvas, position // pace.block, is_alone, steps)

    @property
    def is_hidden(self) -> Tensor:
        return self.step_map == 0

    def open_blocks(self) -> list[int]:
        """Return the blocks that a step reveals positions of."""
        found = self.blocks[self.is_hidden].unique().tolist()
        return found[:1] if self.conventions.is_full else found

    def views(self) -> Views:
        """Return the one view of the present state; its targets are the hidden positions of open blocks."""
        target = self.is_hidden & torch.isin(self.blocks, torch.tensor(self.open_blocks()))
        size = self.canvas.size_of(len(self.pair[0]), len(self.pair[1]))
        block = size if self.conventions.is_full else self.pace.block
        return views_under_noise(*self.pair, size, block, target[None], self.is_hidden[None])

    def reveal(self, logprobs: Tensor) -> None:
        """Take one step, given the log-probability `(R,)` of each token."""
        for block in self.open_blocks():
            inside = self.blocks == block
            hidden = (inside & self.is_hidden).nonzero()[:, 0]
            if self.is_alone[hidden[0]]:
                chosen = hidden[:1]
            else:
                scores = logprobs[hidden]
                order = scores.sort(descending=True, stable=True).indices
                count = max(self.pace.count, int((scores.exp() > self.pace.threshold).sum()))
                chosen = hidden[order[:count]]
            self.step_map[chosen] = int(self.step_map[inside].max()) + 1

    def global_steps(self) -> Tensor:
        """Return steps that go on from block to block: `(R,)`."""
        found, taken = self.step_map.clone(), 0
        for block in self.blocks.unique().tolist():
            inside = self.blocks == block
            found[inside] += taken
            taken = int(found[inside].max())
        return found
