"""`Generation`: one response as `LLM` returns it, which a notebook shows as a player."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from unmask.checkpoints.tokenizer import Tokenizer, token_pieces
from unmask.types import Finish, Trajectory


@dataclass(frozen=True, slots=True)
class Generation:
    """One response.

    Attributes:
        text: without special tokens; empty if the checkpoint has no tokenizer.
        token_ids: `R` ids, stop token included.
        step_map: `R` denoising steps, counted from 1, that revealed them; 0 for pinned tokens.
        logprobs: `R` log-probabilities under the distribution they were drawn from; 0 for pinned tokens.
        finish: `stop` or `length`.
        num_forwards: forward passes it took part in.
        raw_logprobs: `R` log-probabilities under the model's own distribution.
        entropies: `R` entropies of that distribution, in nats.
        policy_version: number of weight updates before it was written.
        html: makes the HTML that plays its writing.
    """

    text: str
    token_ids: tuple[int, ...]
    step_map: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: Finish
    num_forwards: int
    raw_logprobs: tuple[float, ...]
    entropies: tuple[float, ...]
    policy_version: int
    html: Callable[[], str] = field(repr=False, compare=False)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: a player of the denoising steps."""
        return self.html()

    @property
    def confidences(self) -> tuple[float, ...]:
        """The model's own probability of each token when it was revealed."""
        return tuple(math.exp(logprob) for logprob in self.raw_logprobs)

    @property
    def tokens_per_forward(self) -> float:
        """Response tokens per forward pass."""
        return len(self.token_ids) / self.num_forwards


def player_html(trajectory: Trajectory, text: str, tokenizer: Tokenizer | None) -> str:
    """Return the HTML of a player with a trajectory, its tokens as text if there is a tokenizer."""
    # Only a notebook needs the pages.
    from unmask.runs.trajectories import grid_ids
    from unmask.viewer.notebook import trajectory_html

    pieces = token_pieces(grid_ids(trajectory), tokenizer) if tokenizer else None
    return trajectory_html(trajectory, text, pieces)
