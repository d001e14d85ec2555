"""`Generation`: one response as `LLM` returns it, which a notebook shows as a player."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from unmask.checkpoints.tokenizer import Tokenizer, token_pieces
from unmask.types import Finish, Prompt, Trajectory


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


class BrokenResponses(ValueError):
    """Some responses of a batch could not be written; the error carries the others.

    Attributes:
        errors: index in the batch to the error of that response.
        trajectories: in the order of the batch, `None` where there is an error.
        generations: the same, as `generate` returns them.
    """

    def __init__(
        self,
        message: str,
        errors: Mapping[int, ValueError],
        trajectories: Sequence[Trajectory | None],
        generations: Sequence[Generation | None],
    ) -> None:
        """Store the errors and the other responses."""
        super().__init__(message)
        self.errors = errors
        self.trajectories = trajectories
        self.generations = generations


def unbroken(
    prompts: Sequence[Prompt],
    results: Sequence[Trajectory | ValueError],
    generation_of: Callable[[Trajectory], Generation],
) -> list[Trajectory]:
    """Return the trajectories of a batch.

    Args:
        prompts: of the batch.
        results: a trajectory or an error for each.
        generation_of: a trajectory as `generate` returns it.

    Raises:
        BrokenResponses: if there is an error.
    """
    written = [None if isinstance(r, ValueError) else r for r in results]
    errors = {i: r for i, r in enumerate(results) if isinstance(r, ValueError)}
    if not errors:
        return [trajectory for trajectory in written if trajectory]
    names = list(dict.fromkeys(f"{prompts[i].task} prompt {prompts[i].uid}" for i in errors))
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    raise BrokenResponses(
        f"{len(errors)} of {len(results)} responses could not be written ({shown}): "
        f"{next(iter(errors.values()))}; the others are the error's generations and trajectories",
        errors,
        written,
        [trajectory and generation_of(trajectory) for trajectory in written],
    )
