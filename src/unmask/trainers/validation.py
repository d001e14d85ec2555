"""Validation of SFT: the loss on demonstrations that are never trained.

`val_nll` is the loss of the training method, unweighted, under noise that is the same at every measurement. For
methods with noise levels the interval (0, 1] is divided into `LEVELS` equal parts, and each response gets one
view with a level drawn in each: `val_nll_t10` to `val_nll_t90` are the means over the hidden tokens of a part,
named after its middle, and

    val_nelbo = mean over responses and parts of 1/t * sum of -log p over hidden tokens, per response token

is an unbiased estimate of the bound on the negative log-likelihood per token (Nie et al. 2025, equation 3), in
nats; one level per view, drawn in strata, has less variance than independent ones.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from unmask.configs.sft import SFTConfig
from unmask.data.demonstrations import Demonstration
from unmask.diffusion.noise import NoiseSchedule
from unmask.diffusion.views import Views, views_of_responses, with_images
from unmask.runs.read import read_lines
from unmask.seeds import derive_seed
from unmask.trainers.learner import Learner

LEVELS = 5
# Keeps the noise of validation apart from that of training, whose keys begin with 1 or more.
VALIDATION = 0


def measure(
    learner: Learner,
    demonstrations: Sequence[Demonstration],
    config: SFTConfig,
    canvas: tuple[int | None, int],
    views_of: Callable[[Sequence[Demonstration], Sequence[int]], Sequence[Views]],
) -> dict[str, float]:
    """Return the metrics of demonstrations that are never trained.

    Args:
        learner: of the model.
        demonstrations: that are measured, in batches of `data.batch_size`.
        config: of the run.
        canvas: block of the model, `None` under full attention, and the fewest positions of a canvas there.
        views_of: makes the views that the training method scores, from a batch and seeds of the noise.
    """
    own = torch.zeros(3, dtype=torch.float64)  # sums of -log p, of targets, of -log p / t
    levels = torch.zeros(LEVELS, 3, dtype=torch.float64)
    parts = range(LEVELS if config.views.has_noise_levels else 0)
    for start in range(0, len(demonstrations), config.data.batch_size):
        batch = demonstrations[start : start + config.data.batch_size]
        keys = [(config.run.seed, VALIDATION, start + place) for place in range(len(batch))]
        own += _sums(learner, views_of(batch, [derive_seed(*key) for key in keys]))
        for part in parts:
            seeds = [derive_seed(*key, part) for key in keys]
            levels[part] += _sums(learner, level_views(batch, part, seeds, canvas))
    found = {"val_nll": _mean(own)}
    if parts:
        num_tokens = sum(len(d.response_ids) for d in demonstrations)
        found |= {f"val_nll_t{middle_of(part)}": _mean(levels[part]) for part in parts}
        found["val_nelbo"] = float(levels[:, 2].sum()) / (LEVELS * num_tokens)
    return found


def middle_of(part: int) -> int:
    """Return the middle of a part of the noise levels, in percent."""
    return round(100 * (part + 0.5) / LEVELS)


def level_views(
    batch: Sequence[Demonstration],
    part: int,
    seeds: Sequence[int],
    canvas: tuple[int | None, int],
) -> list[Views]:
    """Return one view of each response, at a level drawn in a part of (0, 1]."""
    block, fewest = canvas
    schedule = NoiseSchedule(part / LEVELS, (part + 1) / LEVELS, "response")
    pairs = [(d.prompt_ids, d.response_ids) for d in batch]
    views = views_of_responses(pairs, block, (schedule, 1), seeds, fewest)
    own = zip(views, batch, strict=True)
    return [with_images(one, d.images, is_full=block is None) for one, d in own]


def _sums(learner: Learner, views: Sequence[Views]) -> torch.Tensor:
    """Return the sum of `-log p` over targets, their number, and the sum of `-log p / t`."""
    found = torch.zeros(3, dtype=torch.float64)
    for view, logprobs in zip(views, learner.score(views), strict=True):
        nll = -logprobs[view.target].double().cpu()  # (targets,)
        found[:2] += torch.stack((nll.sum(), torch.tensor(len(nll))))
        if view.noise_level is not None:
            found[2] += (nll / view.noise_level[view.target]).sum()
    return found


def _mean(sums: torch.Tensor) -> float:
    # Nothing is hidden in a few short responses at a low level: NaN, which the log writes as null.
    return float(sums[0] / sums[1])


def has_stalled(run: Path, patience: int) -> bool:
    """Return whether the last `patience` measurements of a run have no new minimum of `val_nll`."""
    measured = [line["val_nll"] for line in read_lines(run / "metrics.jsonl") if "val_nll" in line]
    return len(measured) > patience and min(measured[-patience:]) >= min(measured[:-patience])
