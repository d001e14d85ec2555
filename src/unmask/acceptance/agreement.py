"""Compares a response of the engine with the reference sampler's, up to the first difference.

Both decide by comparing numbers: the position with the highest confidence, a confidence with a
threshold, the likeliest token. Where a forward pass of another shape rounds differently (CUDA, bf16),
two almost equal numbers may change places, and the responses differ from there on. So only the steps up
to the first difference count: the log-probabilities before it must be equal up to rounding, and the
decision itself must be a near-tie. Its *gap* is the difference, in probability, of the numbers
compared, both from the reference's own forward pass over the canvas at that step: a wrong cache or mask
shows as a large gap.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import inf

import torch
from torch import Tensor

from unmask.diffusion.reference_sampler import LogitsFn, sample
from unmask.models.conventions import conventions_of
from unmask.models.transformer import Model, block_causal, image_vectors
from unmask.sampling_params import SamplingParams
from unmask.types import Trajectory

# (step, token) of a position that one of two responses lacks or never revealed.
NEVER = (0, -1)


@dataclass(frozen=True, slots=True)
class Agreement:
    """The comparison of one response with the reference's.

    Attributes:
        step: the denoising step of the first decision that differs; `None` if none does.
        gap: of that decision, in probability; infinite where no near-tie can explain it.
        logprob_gaps: absolute differences of the log-probabilities of all tokens revealed before.
    """

    step: int | None
    gap: float
    logprob_gaps: tuple[float, ...]


def dense_logits(model: Model, block: int, vectors: Tensor | None = None) -> LogitsFn:
    """Return the dense forward pass of whole texts, in blocks of `block` tokens unless attention is full.

    Args:
        model: that is run.
        block: positions per block.
        vectors: `(n, D)` of the pictures in the text.
    """

    def logits(ids: Tensor) -> Tensor:
        allowed = None
        if not model.spec.is_full:
            allowed = block_causal(ids.shape[1], block, ids.device)[None]
        return model.logits(ids, allowed=allowed, vectors=vectors)

    return logits


@torch.inference_mode()
def compare_with_reference(model: Model, written: Trajectory) -> Agreement:
    """Repeat a response with the reference sampler and compare.

    Args:
        model: the model that wrote it.
        written: by the engine, without guidance.
    """
    params = written.sampling
    assert params.block_size is not None and not params.guidance
    vectors = image_vectors(model.backbone.vision, written.prompt.images)
    forward = dense_logits(model, params.block_size, vectors)
    texts: list[Tensor] = []

    def recorded(ids: Tensor) -> Tensor:
        texts.append(ids.clone())  # the sampler changes it in place
        return forward(ids)

    expected = sample(written.prompt, params, recorded, conventions_of(model))
    step = first_difference(written, expected)
    gap = 0.0
    if step is not None:  # past its last step the reference decided nothing
        gap = _gap(model, written, expected, texts[step - 1]) if step <= len(texts) else inf
    both = zip(
        written.step_map,
        expected.step_map,
        written.behavior_logprobs,
        expected.behavior_logprobs,
        strict=False,
    )
    gaps = [abs(a - b) for s, t, a, b in both if 0 < s == t and (step is None or s < step)]
    return Agreement(step, gap, tuple(gaps))


def first_difference(one: Trajectory, other: Trajectory) -> int | None:
    """Return the first denoising step at which two responses to a prompt differ, if any."""
    steps = [min(s for s in (a[0], b[0]) if s) for _, a, b in _differing(one, other)]
    if steps:
        return min(steps)
    # Equal at every position, with another end.
    ends = [(t.num_response, t.finish) for t in (one, other)]
    return None if ends[0] == ends[1] else one.num_steps


def _differing(
    one: Trajectory, other: Trajectory
) -> list[tuple[int, tuple[int, int], tuple[int, int]]]:
    """Return the positions that differ, each with (step, token) in both."""
    revealed = (zip(t.step_map, t.canvas_ids, strict=True) for t in (one, other))
    pairs = enumerate(zip_longest(*revealed, fillvalue=NEVER))
    return [(i, a, b) for i, (a, b) in pairs if a != b and (a[0] or b[0])]


def _gap(model: Model, written: Trajectory, expected: Trajectory, text: Tensor) -> float:
    """Return the gap of the first differing decision.

    Args:
        model: makes the probabilities.
        written: by the engine.
        expected: by the reference.
        text: `(1, L)`, prompt and canvas of both before the decision.
    """
    params, step = written.sampling, first_difference(written, expected)
    # (position, (step, token) of the engine, of the reference)
    differing = [(i, a, b) for i, a, b in _differing(written, expected) if step in (a[0], b[0])]
    if not differing:
        return inf
    places = torch.tensor([i for i, _, _ in differing], device=text.device)
    places += len(written.prompt.token_ids)
    if places.max() >= text.shape[1]:
        return inf  # they were in different blocks
    probabilities = _probabilities(model, params, text, places)
    tokens = [
        abs(float(row[a[1]] - row[b[1]]))
        for row, (_, a, b) in zip(probabilities, differing, strict=True)
        if a[0] == b[0]
    ]
    confidence = _confidence(probabilities, params).tolist()
    ours = [s for s, (_, a, b) in zip(confidence, differing, strict=True) if a[0] == step != b[0]]
    theirs = [s for s, (_, a, b) in zip(confidence, differing, strict=True) if b[0] == step != a[0]]
    if ours and theirs:
        tokens.append(max(*ours, *theirs) - min(*ours, *theirs))
    elif ours or theirs:
        bound = _bound(params, bool((text[0, places] == model.spec.mask_id).all()))
        tokens.append(max(abs(s - bound) for s in ours + theirs))
    return max(tokens)


def _probabilities(model: Model, params: SamplingParams, text: Tensor, places: Tensor) -> Tensor:
    """Return the model's distribution `(S, V)` over the drawable ids at some places of a text."""
    assert params.block_size is not None
    rows = (places - 1).clamp(min=0) if model.spec.is_shifted else places
    logits = dense_logits(model, params.block_size)(text)[0, rows]
    return logits.masked_fill(~model.head.drawable, -inf).double().softmax(-1)


def _confidence(probabilities: Tensor, params: SamplingParams) -> Tensor:
    """Return the ranking score of positions `(S,)`; under most strategies the highest probability."""
    if params.strategy == "margin":
        first, second = probabilities.topk(2).values.unbind(-1)
        return first - second
    if params.strategy in ("entropy", "entropy_bounded"):
        return torch.special.entr(probabilities).sum(-1).neg()
    return probabilities.max(-1).values


def _bound(params: SamplingParams, is_masked: bool) -> float:
    """Return the threshold that decides where one sampler reveals more positions than the other."""
    if not is_masked and params.edit_threshold is not None:
        return params.edit_threshold
    return params.threshold if params.strategy == "dynamic" else inf


def logprob_gaps(agreements: Sequence[Agreement]) -> tuple[float, float]:
    """Return the largest and the mean difference of log-probabilities over several responses."""
    gaps = [gap for agreement in agreements for gap in agreement.logprob_gaps]
    return (max(gaps), sum(gaps) / len(gaps)) if gaps else (0.0, 0.0)
