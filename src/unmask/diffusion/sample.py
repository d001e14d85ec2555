"""The reference sampler: one sequence at a time, no cache, no batch, obviously right.

It is the slow twin of the engine and the meaning of every `SamplingParams` field. The canvas grows
block by block on a grid that starts at absolute position 0, so the first generated block may begin
with the tail of the prompt. A response ends at the first stop token all of whose left neighbours
are decided, or when `max_tokens` slots are.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.diffusion.unmask import Rules, quota, reveal
from unmask.types import Finish, Prompt, SamplingParams, Trajectory

LogitsFn = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Alphabet:
    """What may be written: the mask id, and `drawable (V,)` bool."""

    mask_id: int
    drawable: Tensor


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
    prompt: Prompt, params: SamplingParams, logits_fn: LogitsFn, alphabet: Alphabet
) -> Trajectory:
    """Write one response.

    Args:
        prompt: with `token_ids` filled in.
        params: with `block_size` and `stop_token_ids` filled in; `n` is ignored.
        logits_fn: `(1, L)` token ids to `(1, L, V)` logits under the model's attention pattern.
        alphabet: what may be written.
    """
    assert params.block_size is not None
    block = params.block_size
    device = alphabet.drawable.device
    num_prompt = len(prompt.token_ids)
    tokens = list(prompt.token_ids)
    step_map, logprobs = [0] * num_prompt, [0.0] * num_prompt
    rules = Rules.of([params], device)
    step, end = 0, None

    while end is None:
        start = len(tokens) // block * block
        num_masks = start + block - len(tokens)
        tokens += [alphabet.mask_id] * num_masks
        step_map += [0] * num_masks
        logprobs += [0.0] * num_masks
        positions = torch.arange(start, start + block, device=device)[None]
        step_in_block = 0
        while end is None:
            hidden = torch.tensor(
                [[i >= num_prompt and step_map[i] == 0 for i in range(start, start + block)]],
                device=device,
            )
            if not hidden.any():
                break
            logits = logits_fn(torch.tensor([tokens], device=device))[0, start:]
            taken = torch.tensor([step], device=device)
            least = quota(
                torch.tensor([num_masks], device=device),
                rules.steps,
                torch.tensor([step_in_block], device=device),
            )
            result = reveal(
                logits[hidden[0]], hidden, positions, (taken, least), rules, alphabet.drawable
            )
            step += 1
            step_in_block += 1
            for column in result.chosen[0].nonzero()[:, 0].tolist():
                tokens[start + column] = int(result.tokens[0, column])
                logprobs[start + column] = float(result.logprobs[0, column])
                step_map[start + column] = step
            decided = [s > 0 for s in step_map[num_prompt:]]
            end = find_end(tokens[num_prompt:], decided, params)

    num_response, finish = end
    return Trajectory(
        prompt=prompt,
        canvas_ids=tuple(tokens[num_prompt:]),
        step_map=tuple(step_map[num_prompt:]),
        behavior_logprobs=tuple(logprobs[num_prompt:]),
        num_response=num_response,
        finish=finish,
        policy_version=0,
        sampling=params,
        num_forwards=step,
    )
