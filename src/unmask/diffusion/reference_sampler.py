"""The reference sampler: one sequence at a time, no cache, no batch, obviously right.

It is the slow twin of the engine and the meaning of every `SamplingParams` field. Under block-causal
attention the canvas grows block by block on a grid that starts at absolute position 0, so the first
generated block may begin with the tail of the prompt. Under full attention the whole canvas is there
from the start, and blocks, counted from the response's start, are only the order of writing.

A response ends at the first stop token all of whose left neighbours are decided, or when
`max_tokens` slots are. Where written tokens may still change, a block is finished first.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.diffusion.conventions import Conventions
from unmask.diffusion.sampling_tensors import Rules
from unmask.diffusion.unmask import Block, Progress, Reveal, open_now, quota, reveal
from unmask.types import Finish, Prompt, SamplingParams, Trajectory

LogitsFn = Callable[[Tensor], Tensor]


def find_end(
    tokens: list[int], is_decided: list[bool], params: SamplingParams
) -> tuple[int, Finish] | None:
    """Return the response's length and why it ends, or `None` while it does not.

    Args:
        tokens: the canvas so far.
        is_decided: which of its slots are revealed.
        params: with `stop_token_ids` filled in.
    """
    for slot, token in enumerate(tokens[: params.max_tokens]):
        if not is_decided[slot]:
            return None
        if token in (params.stop_token_ids or ()):
            return slot + 1, "stop"
    return (params.max_tokens, "length") if len(tokens) >= params.max_tokens else None


@torch.no_grad()
def sample(
    prompt: Prompt, params: SamplingParams, logits_fn: LogitsFn, conventions: Conventions
) -> Trajectory:
    """Write one response.

    Args:
        prompt: with `token_ids` filled in.
        params: with `block_size` and `stop_token_ids` filled in; `n` is ignored.
        logits_fn: `(1, L)` token ids to `(1, L, V)` logits under the model's attention pattern,
            never shifted.
        conventions: the model's.
    """
    writing = Writing(prompt, params, logits_fn, conventions)
    end = None
    while end is None:
        writing.open_block()
        while end is None and writing.is_open():
            writing.step()
            end = None if params.revises else writing.find_end()
        end = writing.find_end() if end is None else end
    return writing.trajectory(*end)


class Writing:
    """A response being written.

    Attributes:
        tokens: `(1, L)` prompt and canvas so far.
        step_map: `(1, L)` the denoising step that wrote each; 0 for prompt and mask.
        logprobs: `(1, L)` float64, as `raw_logprobs` and `entropies`: see `Trajectory`.
    """

    def __init__(
        self,
        prompt: Prompt,
        params: SamplingParams,
        logits_fn: LogitsFn,
        conventions: Conventions,
    ) -> None:
        """Put the prompt in place; under full attention, the canvas too."""
        assert params.block_size is not None
        self.prompt, self.params = prompt, params
        self.logits_fn, self.conventions = logits_fn, conventions
        self.rules = Rules.of([params], conventions.drawable.device)
        self.num_prompt, self.block_size = len(prompt.token_ids), params.block_size
        self.tokens = self._integers(prompt.token_ids)
        self.step_map = torch.zeros_like(self.tokens)
        self.logprobs = torch.zeros_like(self.tokens, dtype=torch.float64)
        self.raw_logprobs, self.entropies = self.logprobs, self.logprobs
        self.taken, self.revised = 0, False
        self.start = self.stop = self.num_prompt
        if conventions.is_full:
            self._extend(self.num_prompt + params.max_tokens)
        else:
            self.stop = self.num_prompt // self.block_size * self.block_size

    def _integers(self, values: "tuple[int, ...] | list[int]") -> Tensor:
        return torch.tensor([values], dtype=torch.int64, device=self.conventions.drawable.device)

    def _extend(self, length: int) -> None:
        """Add masks up to a length."""
        more = (0, length - self.tokens.shape[1])
        self.tokens = F.pad(self.tokens, more, value=self.conventions.mask_id)
        self.step_map = F.pad(self.step_map, more)
        self.logprobs = F.pad(self.logprobs, more)
        self.raw_logprobs = F.pad(self.raw_logprobs, more)
        self.entropies = F.pad(self.entropies, more)

    def open_block(self) -> None:
        """Go on to the next block, all masks but the prompt's tail."""
        self.start, self.stop = self.stop, self.stop + self.block_size
        if self.conventions.is_full:
            self.stop = min(self.stop, self.tokens.shape[1])
        else:
            self._extend(self.stop)
        self.num_masks = int(self.hidden().sum())
        self.step_in_block = self._integers([0])[0]
        self.edits_left = int(self.rules.max_edit_steps[0])

    def hidden(self) -> Tensor:
        """Return `(1, K)` bool, the slots of the block that are still masked."""
        return (self.step_map[:, self.start : self.stop] == 0) & self._is_response()

    def _is_response(self) -> Tensor:
        return self._positions() >= self.num_prompt

    def _may_change(self) -> Tensor:
        """Return `(1, K)` bool, the slots that a request may write again.

        A slot that is read off the block before depends on nothing written since.
        """
        if self.conventions.first_is_alone:
            return self._is_response() & (self._positions() > self.start)
        return self._is_response()

    def _positions(self) -> Tensor:
        return torch.arange(self.start, self.stop, device=self.tokens.device)[None]

    def is_open(self) -> bool:
        """Say whether the block needs another denoising step."""
        if self.hidden().any():
            return True
        return self.edits_left > 0 and bool(self._may_change().any())

    def step(self) -> None:
        """Take one denoising step."""
        hidden = self.hidden()
        num_masks, num_hidden = self._integers([self.num_masks, int(hidden.sum())])[0]
        progress = Progress(num_masks[None], num_hidden[None], self.step_in_block)
        quotas, self.step_in_block = quota(progress, self.rules)
        block = Block(
            tokens=self.tokens[:, self.start : self.stop],
            hidden=self._open_now(hidden),
            written=self._may_change() & ~hidden,
            positions=self._positions(),
            taken=self._integers([self.taken])[0],
            quotas=quotas,
        )
        scored = block.hidden | (block.written & self.params.revises)
        logits = self._logits()[0, self.start : self.stop][scored[0]]
        row, column = scored.nonzero(as_tuple=True)
        result = reveal(logits, block, (row, column), self.rules, self.conventions.drawable)
        self._write(result, block)

    def _open_now(self, hidden: Tensor) -> Tensor:
        if self.conventions.first_is_alone and hidden[0, 0]:
            return hidden & (self._positions() == self.start)
        return open_now(hidden, self.rules)

    def _logits(self) -> Tensor:
        """Return `(1, L, V)` logits, row i for slot i: guided, and shifted where the model needs it."""
        logits = self.logits_fn(self.tokens)
        if self.params.guidance:
            unconditional = self.tokens.clone()
            unconditional[:, : self.num_prompt] = self.conventions.mask_id
            without = self.logits_fn(unconditional)
            logits = without + (self.params.guidance + 1) * (logits - without)
        if self.conventions.is_shifted:
            logits = torch.cat((logits[:, :1], logits[:, :-1]), 1)
        return logits

    def _write(self, result: Reveal, block: Block) -> None:
        """Put a step's reveals, edits and masks in place."""
        self.taken += 1
        chosen, here = result.chosen, slice(self.start, self.stop)
        for text, values in (
            (self.tokens, result.tokens),
            (self.step_map, torch.full_like(result.tokens, self.taken)),
            (self.logprobs, result.logprobs.double()),
            (self.raw_logprobs, result.raw_logprobs.double()),
            (self.entropies, result.entropy.double()),
        ):
            text[:, here] = torch.where(chosen, values, text[:, here])
        self.tokens[:, here].masked_fill_(result.remasked, self.conventions.mask_id)
        self.step_map[:, here].masked_fill_(result.remasked, 0)
        edited = bool((chosen & block.written).any())
        self.revised |= edited or bool(result.remasked.any())
        if not block.hidden.any():
            self.edits_left = self.edits_left - 1 if edited else 0

    def find_end(self) -> tuple[int, Finish] | None:
        """Return the response's length and why it ends, or `None` while it does not."""
        decided = (self.step_map[0, self.num_prompt : self.stop] > 0).tolist()
        return find_end(self.tokens[0, self.num_prompt : self.stop].tolist(), decided, self.params)

    def trajectory(self, num_response: int, finish: Finish) -> Trajectory:
        """Return what was written."""

        def canvas(text: Tensor) -> tuple:  # type: ignore[type-arg]
            return tuple(text[0, self.num_prompt :].tolist())

        return Trajectory(
            prompt=self.prompt,
            canvas_ids=canvas(self.tokens),
            step_map=canvas(self.step_map),
            behavior_logprobs=canvas(self.logprobs),
            num_response=num_response,
            finish=finish,
            policy_version=0,
            sampling=self.params,
            num_forwards=self.taken * (2 if self.params.guidance else 1),
            revised=self.revised,
            raw_logprobs=canvas(self.raw_logprobs),
            entropies=canvas(self.entropies),
        )
