"""The reference sampler of text-to-image: one image at a time, all codes open, without a cache.

Every denoising step draws a code for each hidden place and reveals the most probable ones. Of N codes in
T steps, after step t = 1 .. T - 1

    n_t = floor(N cos(pi/2 t/T)), at least 1 and fewer than before,

stay hidden: those of the lowest `log p + temperature_t * Gumbel noise`, where p is the probability of the code
that was drawn. The last step reveals all. As published, `temperature_t = temperature * prod_{s <= t} (1 - s/T)`.
With guidance g, the logits are `(1 + g) c - g u`, where u has the empty text as its prompt.

Chang et al., "MaskGIT: Masked Generative Image Transformer" (2022); Yang et al., "MMaDA" (2025).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi
from typing import Annotated

import torch
from torch import Tensor

from unmask.bounds import check_fields
from unmask.diffusion.keyed_random import ORDER, TOKEN, uniform
from unmask.diffusion.token_sampling import draw
from unmask.types import AMOUNT, COUNT

HIDDEN = -1
# `(N,)` codes, `HIDDEN` where they are not drawn yet, to `(N, number of codes)` logits in fp32.
CodeLogitsFn = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class ImageSampling:
    """How an image is drawn; the defaults are the published ones.

    Attributes:
        steps: denoising steps.
        guidance: g; 0 takes one forward pass per step instead of two.
        temperature: of the noise in the order of places; 0 keeps the most probable codes.
        is_greedy: whether the most likely code is taken instead of a draw.
        seed: key of all draws.

    Raises:
        ValueError: if a value is not accepted.
    """

    steps: Annotated[int, COUNT] = 15
    guidance: Annotated[float, AMOUNT] = 3.5
    temperature: Annotated[float, AMOUNT] = 1.0
    is_greedy: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the fields."""
        check_fields(self)


@dataclass(frozen=True, slots=True)
class ImageTrajectory:
    """An image's codes and the order in which they were revealed.

    Attributes:
        codes: `(N,)` int64.
        step_map: `(N,)` the denoising step, from 1, that revealed each code.
        logprobs: `(N,)` its log-probability in that step, with guidance.
    """

    codes: Tensor
    step_map: Tensor
    logprobs: Tensor


def num_hidden(num_codes: int, steps: int, step: int) -> int:
    """Return the number of codes that the cosine schedule leaves hidden after step 1, 2, ..., `steps`.

    In fp32, as published: 1024 codes have 511 hidden after step 10 of 15, where the cosine is 1/2, and the
    last step gives -1.
    """
    angle = torch.tensor(step / steps, dtype=torch.float32) * pi * 0.5
    return int((num_codes * angle.cos()).floor())


@torch.no_grad()
def sample_codes(
    num_codes: int,
    sampling: ImageSampling,
    conditional: CodeLogitsFn,
    unconditional: CodeLogitsFn | None = None,
) -> ImageTrajectory:
    """Return an image.

    Args:
        num_codes: `N`.
        sampling: how it is drawn.
        conditional: logits under the prompt.
        unconditional: logits under the empty prompt, for guidance.

    Raises:
        ValueError: if guidance is asked for without `unconditional`.
    """
    if sampling.guidance and unconditional is None:
        raise ValueError(f"guidance = {sampling.guidance}: needs the logits of the empty prompt")
    codes = torch.full((num_codes,), HIDDEN)
    step_map, logprobs = torch.zeros_like(codes), torch.zeros(num_codes)
    temperature = sampling.temperature
    for step in range(1, sampling.steps + 1):
        logits = conditional(codes)
        if sampling.guidance and unconditional is not None:
            without = unconditional(codes)
            logits = (1 + sampling.guidance) * logits - sampling.guidance * without
        logp = logits.float().cpu().log_softmax(-1)
        drawn = _drawn(logp, sampling, step)
        found = logp.gather(1, drawn[:, None])[:, 0]  # (N,)
        temperature *= 1 - step / sampling.steps
        hidden = codes == HIDDEN
        written = hidden.clone()
        if step < sampling.steps:
            limit = min(int(hidden.sum()) - 1, num_hidden(num_codes, sampling.steps, step))
            score = found + temperature * _noise(num_codes, sampling.seed, step)
            last = score.masked_fill(~hidden, torch.inf).argsort(stable=True)[: max(1, limit)]
            written[last] = False
        codes = torch.where(written, drawn, codes)
        step_map[written] = step
        logprobs = torch.where(written, found, logprobs)
    return ImageTrajectory(codes, step_map, logprobs)


def _drawn(logp: Tensor, sampling: ImageSampling, step: int) -> Tensor:
    """Return a code for each place."""
    if sampling.is_greedy:
        return logp.argmax(-1)
    return draw(logp.exp(), _uniforms(len(logp), sampling.seed, step, TOKEN))


def _noise(count: int, seed: int, step: int) -> Tensor:
    """Return Gumbel noise of each place; the smallest normal number keeps a draw of 0 finite."""
    uniforms = _uniforms(count, seed, step, ORDER).clamp(min=torch.finfo(torch.float64).tiny)
    return -(-uniforms.log()).log().float()


def _uniforms(count: int, seed: int, step: int, purpose: int) -> Tensor:
    return uniform(torch.tensor(seed), torch.arange(count), torch.tensor(step), purpose)
