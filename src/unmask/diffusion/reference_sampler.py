"""The reference sampler: one sequence at a time, without cache or batch.

It is the slow twin of the engine and defines the meaning of every `SamplingParams` field. Under block-causal
attention the canvas grows block by block on a grid that starts at absolute position 0, so the first
generated block may begin with the tail of the prompt. Under full attention the whole canvas exists from the
start, and blocks, counted from the response's start, are only the order of sequence.

A response ends at the first stop token with everything left of it decided, or when `max_tokens` positions
are decided. Where written tokens may still change, the block is finished first. Stop tokens left of a pinned
token do not end it, and none is drawn among its first `min_tokens`. A block of pinned tokens takes no denoising
step; the engine feeds it in a pass of its own.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.diffusion.constrained import Constraint, Span
from unmask.diffusion.conventions import Conventions
from unmask.diffusion.sampling_tensors import SamplingTensors
from unmask.diffusion.unmask import PINNED, Block, Reveal, open_now, quota, reveal
from unmask.sampling_params import SamplingParams
from unmask.types import Finish, Prompt, Revision, Trajectory

LogitsFn = Callable[[Tensor], Tensor]


def find_end(
    tokens: list[int], is_decided: list[bool], params: SamplingParams
) -> tuple[int, Finish] | None:
    """Return the response's length and finish reason, or `None` while it goes on.

    Args:
        tokens: the canvas so far.
        is_decided: which of its positions are revealed.
        params: with `stop_token_ids` filled in.
    """
    for position, token in enumerate(tokens[: params.max_tokens]):
        if not is_decided[position]:
            return None
        if token in (params.stop_token_ids or ()) and position >= params.first_end:
            return position + 1, "stop"
    return (params.max_tokens, "length") if len(tokens) >= params.max_tokens else None


@torch.no_grad()
def sample(
    prompt: Prompt,
    params: SamplingParams,
    logits_fn: LogitsFn,
    conventions: Conventions,
    constraint: Constraint | None = None,
) -> Trajectory:
    """Return one response.

    Args:
        prompt: with `token_ids` filled in.
        params: with `block_size` and `stop_token_ids` filled in; `n` is ignored.
        logits_fn: `(1, L)` token ids to `(1, L, V)` logits under the model's attention pattern,
            never shifted.
        conventions: the model's.
        constraint: of structured output.

    Raises:
        ValueError: if `params` ask for structured output without a constraint.
    """
    if params.is_structured and constraint is None:
        raise ValueError("regex or json_schema: give the constraint, Constraint.of(automaton, ...)")
    sequence = ReferenceSequence(prompt, params, logits_fn, conventions, constraint)
    end = None
    while end is None:
        sequence.open_block()
        sequence.num_passes += not sequence.hidden().any()
        while end is None and sequence.is_open():
            sequence.step()
            end = None if params.revises else sequence.find_end()
        end = end or sequence.find_end()
    return sequence.trajectory(*end)


class ReferenceSequence:
    """A response while it is sampled.

    Attributes:
        tokens: `(1, L)` prompt and canvas so far.
        step_map: `(1, L)` the denoising step that wrote each; 0 for prompt and mask, `PINNED` for pinned.
        measured: `(3, L)` float64, `behavior_logprobs`, `raw_logprobs` and `entropies` of a `Trajectory`.
        revisions: writes that were replaced, and positions masked again.
        num_passes: forward passes taken.
    """

    def __init__(
        self,
        prompt: Prompt,
        params: SamplingParams,
        logits_fn: LogitsFn,
        conventions: Conventions,
        constraint: Constraint | None = None,
    ) -> None:
        """Lay out the prompt and, under full attention, the canvas."""
        assert params.block_size is not None
        self.prompt, self.params = prompt, params
        self.logits_fn, self.conventions, self.constraint = logits_fn, conventions, constraint
        self.sampling = SamplingTensors.of([params], conventions.drawable.device)
        self.num_prompt, self.block_size = len(prompt.token_ids), params.block_size
        self.tokens = self._integers(prompt.token_ids)
        self.step_map = torch.zeros_like(self.tokens)
        self.measured = torch.zeros_like(self.tokens, dtype=torch.float64).repeat(3, 1)
        self.taken, self.num_passes = 0, 0
        self.revisions: list[Revision] = []
        self.start = self.stop = self.num_prompt
        if conventions.is_full:
            self._extend(self.num_prompt + params.max_tokens)
        else:
            self.stop = self.num_prompt // self.block_size * self.block_size

    def _integers(self, values: "tuple[int, ...] | list[int]") -> Tensor:
        return torch.tensor([values], dtype=torch.int64, device=self.conventions.drawable.device)

    def _extend(self, length: int) -> None:
        """Append masks up to a length."""
        more = (0, length - self.tokens.shape[1])
        self.tokens = F.pad(self.tokens, more, value=self.conventions.mask_id)
        self.step_map = F.pad(self.step_map, more)
        for position, token in self.params.pinned:
            place = self.num_prompt + position
            if place < length:
                self.tokens[0, place], self.step_map[0, place] = token, PINNED
        self.measured = F.pad(self.measured, more)

    def open_block(self) -> None:
        """Go on to the next block, all masks except the prompt's tail."""
        self.start, self.stop = self.stop, self.stop + self.block_size
        if self.conventions.is_full:
            self.stop = min(self.stop, self.tokens.shape[1])
        else:
            self._extend(self.stop)
        self.num_masks = int(self.hidden().sum())
        self.step_in_block = self._integers([0])[0]
        self.edits_left = int(self.sampling.max_edit_steps[0])

    def hidden(self) -> Tensor:
        """Return `(1, K)` bool, the positions of the block that are still masked."""
        return (self.step_map[:, self.start : self.stop] == 0) & self._is_response()

    def _is_response(self) -> Tensor:
        return self._positions() >= self.num_prompt

    def _may_change(self) -> Tensor:
        """Return `(1, K)` bool, the positions that a request which revises may write again.

        A position predicted by the block before is excluded: nothing written since changes its prediction.
        """
        is_free = self._is_response() & (self.step_map[:, self.start : self.stop] != PINNED)
        if self.conventions.first_is_alone:
            return is_free & (self._positions() > self.start)
        return is_free

    def _positions(self) -> Tensor:
        return torch.arange(self.start, self.stop, device=self.tokens.device)[None]

    def is_open(self) -> bool:
        """Return whether the block needs another denoising step."""
        if self.hidden().any():
            return True
        return self.edits_left > 0 and bool(self._may_change().any())

    def step(self) -> None:
        """Take one denoising step."""
        hidden = self.hidden()
        num_masks = self._integers([self.num_masks])[0]
        quotas, self.step_in_block = quota(
            num_masks, hidden.sum(-1), self.step_in_block, self.sampling
        )
        block = Block(
            tokens=self.tokens[:, self.start : self.stop],
            hidden=self._open_now(hidden),
            written=self._may_change() & ~hidden,
            positions=self._positions(),
            taken=self._integers([self.taken])[0],
            step=self.step_in_block,
            quotas=quotas,
            is_early=self._positions() < self.num_prompt + self.params.min_tokens,
            stop_ids=self._integers(self.params.stop_token_ids or ()),
        )
        scored = block.hidden | (block.written & self.params.revises)
        logits = self._logits()[0, self.start : self.stop][scored[0]]
        row, column = scored.nonzero(as_tuple=True)
        span = self._span(block)
        block = block if span is None else block._replace(spans={0: span})
        ids = self.conventions.drawable, self.conventions.codes
        result = reveal(logits, block, (row, column), self.sampling, *ids)
        self._write(result, block)

    def _span(self, block: Block) -> Span | None:
        if self.constraint is None:
            return None
        opened = (block.positions[block.hidden] - self.num_prompt).tolist()
        response = slice(self.num_prompt, self.stop)
        tokens, steps = self.tokens[0, response].tolist(), self.step_map[0, response].tolist()
        return self.constraint.span(tokens, steps, opened)

    def _open_now(self, hidden: Tensor) -> Tensor:
        if self.conventions.first_is_alone and hidden[0, 0]:
            return hidden & (self._positions() == self.start)
        return open_now(hidden, self.sampling)

    def _logits(self) -> Tensor:
        """Return `(1, L, V)` logits, row i for position i: with guidance, and shifted where needed."""
        logits = self.logits_fn(self.tokens)
        if self.params.guidance:
            without = self._unconditional_logits()
            logits = without + (self.params.guidance + 1) * (logits - without)
        if self.conventions.is_shifted:
            logits = torch.cat((logits[:, :1], logits[:, :-1]), 1)  # row i - 1 predicts position i
        return logits

    def _unconditional_logits(self) -> Tensor:
        """Return `(1, L, V)` logits without the prompt, 0 in its rows."""
        ids = self.prompt.unconditional_ids or (self.conventions.mask_id,) * self.num_prompt
        canvas = self.tokens[:, self.num_prompt :]
        logits = self.logits_fn(torch.cat((self._integers(ids), canvas), 1))
        # The two prompts may differ in length: rows are aligned by those that predict the canvas.
        shift = int(self.conventions.is_shifted)
        return F.pad(logits[:, len(ids) - shift :], (0, 0, self.num_prompt - shift, 0))

    def _write(self, result: Reveal, block: Block) -> None:
        """Write a step's reveals, edits and new masks."""
        self.taken += 1
        self.num_passes += 1
        here = slice(self.start, self.stop)
        edited = result.chosen & block.written
        self._record(edited, result.remasked)
        measured = torch.cat((result.logprobs, result.raw_logprobs, result.entropy)).double()
        for column, values, empty in (
            (self.tokens, result.tokens, self.conventions.mask_id),
            (self.step_map, torch.full_like(result.tokens, self.taken), 0),
            (self.measured, measured, 0),  # (3, K) under one mask (1, K)
        ):
            written = torch.where(result.chosen, values, column[:, here])
            column[:, here] = written.masked_fill(result.remasked, empty)
        if not block.hidden.any():
            self.edits_left = self.edits_left - 1 if edited.any() else 0

    def _record(self, edited: Tensor, remasked: Tensor) -> None:
        """Record the writes that a step replaces, before it does, and the positions that it masks again."""
        for column in (edited | remasked)[0].nonzero()[:, 0].tolist():
            place, position = self.start + column, self.start + column - self.num_prompt
            step, token = int(self.step_map[0, place]), int(self.tokens[0, place])
            logprob = float(self.measured[0, place])
            self.revisions.append(Revision(step, position, token, logprob, "write"))
            if remasked[0, column]:
                mask_id = self.conventions.mask_id
                self.revisions.append(Revision(self.taken, position, mask_id, 0.0, "remask"))

    def find_end(self) -> tuple[int, Finish] | None:
        """Return the response's length and finish reason, or `None` while it goes on."""
        decided = (self.step_map[0, self.num_prompt : self.stop] != 0).tolist()
        return find_end(self.tokens[0, self.num_prompt : self.stop].tolist(), decided, self.params)

    def trajectory(self, num_response: int, finish: Finish) -> Trajectory:
        """Return the trajectory of a finished response."""
        columns = (*self.tokens, *self.step_map.clamp(min=0), *self.measured)
        canvas = (tuple(column[self.num_prompt :].tolist()) for column in columns)
        canvas_ids, step_map, logprobs, raw_logprobs, entropies = canvas
        return Trajectory(
            prompt=self.prompt,
            canvas_ids=canvas_ids,
            step_map=step_map,
            behavior_logprobs=logprobs,
            num_response=num_response,
            finish=finish,
            policy_version=0,
            sampling=self.params,
            num_forwards=self.num_passes * (2 if self.params.guidance else 1),
            revisions=tuple(sorted(self.revisions, key=lambda r: (r.step, r.position))),
            num_steps=self.taken,
            raw_logprobs=raw_logprobs,
            entropies=entropies,
        )
