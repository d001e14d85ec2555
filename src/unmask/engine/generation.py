"""`Generation`: one response as `LLM` returns it, which a notebook shows as a player.

It also has the attributes of vLLM's `RequestOutput` and `CompletionOutput`: the first response to a prompt
carries the others, so `result.text` is its text and `result.outputs[i].text` that of each.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

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
        prompt_token_ids: `P` ids of the prompt; those of vectors of pictures are negative.
        prompt_text: makes the text of the prompt.
        others: the second to the n-th response to the prompt, where this is the first.
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
    prompt_token_ids: tuple[int, ...]
    prompt_text: Callable[[], str | None] = field(repr=False, compare=False)
    others: tuple["Generation", ...] = ()

    def _repr_html_(self) -> str:
        """Return what a notebook shows: a player of the denoising steps, one for each response."""
        return "".join(one.html() for one in self.outputs)

    @property
    def outputs(self) -> tuple["Generation", ...]:
        """The `n` responses to the prompt, this one first."""
        return (self, *self.others)

    @property
    def prompt(self) -> str | None:
        """The text that the model read, special tokens included; `None` without a tokenizer."""
        return self.prompt_text()

    @property
    def finish_reason(self) -> Finish:
        """`finish`, by the name that vLLM and OpenAI have for it."""
        return self.finish

    @property
    def cumulative_logprob(self) -> float:
        """The sum of `logprobs`."""
        return math.fsum(self.logprobs)

    @property
    def confidences(self) -> tuple[float, ...]:
        """The model's own probability of each token when it was revealed."""
        return tuple(math.exp(logprob) for logprob in self.raw_logprobs)

    @property
    def tokens_per_forward(self) -> float:
        """Response tokens per forward pass."""
        return len(self.token_ids) / self.num_forwards


def generation_of(trajectory: Trajectory, text: str, tokenizer: Tokenizer | None) -> Generation:
    """Return a trajectory as `LLM` returns it, with the text of its response."""
    length = trajectory.num_response
    return Generation(
        text=text,
        token_ids=trajectory.response_ids,
        step_map=trajectory.step_map[:length],
        logprobs=trajectory.behavior_logprobs[:length],
        finish=trajectory.finish,
        num_forwards=trajectory.num_forwards,
        raw_logprobs=trajectory.raw_logprobs[:length],
        entropies=trajectory.entropies[:length],
        policy_version=trajectory.policy_version,
        html=partial(player_html, trajectory, text, tokenizer),
        prompt_token_ids=trajectory.prompt.token_ids,
        prompt_text=partial(read_prompt, trajectory.prompt, tokenizer),
    )


def player_html(trajectory: Trajectory, text: str, tokenizer: Tokenizer | None) -> str:
    """Return the HTML of a player with a trajectory, its tokens as text if there is a tokenizer."""
    # Only a notebook needs the pages.
    from unmask.runs.trajectories import grid_ids
    from unmask.viewer.notebook import trajectory_html

    pieces = token_pieces(grid_ids(trajectory), tokenizer) if tokenizer else None
    return trajectory_html(trajectory, text, pieces)


def read_prompt(prompt: Prompt, tokenizer: Tokenizer | None) -> str | None:
    """Return the text of a prompt's tokens, with a marker for each picture; `None` without a tokenizer."""
    return "".join(token_pieces(prompt.token_ids, tokenizer)) if tokenizer else None


def by_prompt(written: Sequence[Generation], counts: Sequence[int]) -> list[Generation]:
    """Return the first response to each prompt, which carries the others.

    Args:
        written: the responses to the first prompt, to the second, and so on.
        counts: number of responses to each.
    """
    found, rest = list[Generation](), iter(written)
    for count in counts:
        first, *others = [next(rest) for _ in range(count)]
        found.append(replace(first, others=tuple(others)))
    return found
