"""Forced decoding: against a plain loop over dense forward passes, one response and one block at a time."""

import pytest
import torch

from tests.diffusion.methods.published import demonstrations, golden, log_probs
from tests.invariants.test_law_3_packed_layout_is_view_by_view import doubled_mask
from unmask.data.demonstrations import Demonstration
from unmask.diffusion.forced import Pace, forced_step_maps
from unmask.models.conventions import conventions_of
from unmask.models.transformer import Model
from unmask.trainers.reference import Scorer

BLOCK = 4


def plain_logprobs(model: Model, d: Demonstration, hidden: torch.Tensor) -> torch.Tensor:
    """Return the log-probability `(R,)` of each token given the state, by one dense forward pass."""
    prompt, clean = torch.tensor(d.prompt_ids), torch.tensor(d.response_ids)
    noisy = torch.cat((prompt, clean.masked_fill(hidden, model.spec.require_mask_id())))
    row = torch.arange(len(prompt), len(noisy)) - int(model.spec.is_shifted)
    if model.spec.is_full:
        return log_probs(model, model.logits(noisy[None])[0, row], clean)
    both, length = torch.cat((prompt, clean, noisy)), len(noisy)
    mask = doubled_mask(length, BLOCK)[None]
    logits = model.logits(both[None], torch.arange(length).repeat(2), mask)[0]
    is_clean = row // BLOCK < torch.arange(len(prompt), length) // BLOCK
    return log_probs(model, logits[row + length * ~is_clean], clean)


@torch.no_grad()
def plain_step_map(model: Model, d: Demonstration, count: int, threshold: float) -> list[int]:
    """Decode a response block by block, in order; later blocks are hidden throughout."""
    first, size = len(d.prompt_ids), len(d.response_ids)
    start = 0 if model.spec.is_full else first
    steps, step = [0] * size, 0
    for block in dict.fromkeys((start + i) // BLOCK for i in range(size)):
        places = [i for i in range(size) if (start + i) // BLOCK == block]
        while left := [i for i in places if not steps[i]]:
            step += 1
            scores = plain_logprobs(model, d, torch.tensor([value == 0 for value in steps]))
            ranked = sorted(left, key=lambda i: -float(scores[i]))
            above = sum(float(scores[i].exp()) > threshold for i in left)
            chosen = ranked[: max(count, above)]
            is_first = not model.spec.is_full and (start + left[0]) % BLOCK == 0
            if model.spec.is_shifted and is_first:
                chosen = left[:1]
            for i in chosen:
                steps[i] = step
    return steps


@pytest.mark.parametrize(("count", "threshold"), [(1, 1.0), (3, 1.0), (1, 0.02)])
@pytest.mark.parametrize("family", ["sdar", "fast_dllm_v2", "llada", "dream"])
def test_it_is_the_plain_loop(family: str, count: int, threshold: float) -> None:
    model = golden(family)
    batch = [
        Demonstration(d.prompt_ids[cut:], d.response_ids[cut:])
        for cut, d in enumerate(demonstrations(model))
    ]
    pairs = [(d.prompt_ids, d.response_ids) for d in batch]
    pace, scorer = Pace(BLOCK, count, threshold), Scorer(model, 256)
    found = forced_step_maps(pairs, scorer.score, conventions_of(model), pace)
    assert [list(steps) for steps in found] == [
        plain_step_map(model, d, count, threshold) for d in batch
    ]
