"""Random views of rollouts: a written response under fresh random masks, not along its trajectory.

Random-masking RL and coupled RL are those of dLLM-RL: under `loss.kind = "clipped"` every view has a ratio
of its own, and no weight depends on t. Losses of whole responses weigh a target by 1/t (`likelihood.py`).

A mask hides each token of the response with probability t (`diffusion/noise.py`). Published are one t
per view under full attention and one per token for block models. The hidden tokens are the targets.

    random   one view per mask
    coupled  two views per mask: the mask, and its complement in the response. Each token is a target
             exactly once per pair, so `num_masks` times in all; each of the two weighs half. DiffuCoder
             (arXiv 2506.20639) adds a third view that hides everything, and weighs it as the pair.

Both kinds of attention follow one rule right of the response: those positions are hidden in every view
and never targets, except the first `post_num`, which are masked like the response. Published for full
attention; under blocks the trajectory has no answer either (what stood there depends on the denoising
step, and a random view has none), and it is how SFT pads. A position the sampler never revealed stays
hidden as well.

A mask that hides nothing would be a view without a target: it hides the one position that came nearest
instead, so there are as many views as were asked for. An empty complement (a response of one token) is
left out.

The sampler never saw these views, so its log-probabilities do not belong to them: the learner scores
the old policy under the same masks. Draws are keyed by the trajectory's own seed, which stands for
(seed, step, prompt, sample).
"""

from dataclasses import replace

import torch
from torch import Tensor

from unmask.diffusion.likelihood import Likelihood
from unmask.diffusion.noise import NoiseSchedule, draw_noise
from unmask.diffusion.views import Views


def masked_views(
    traced: Views,
    seed: int,
    num_masks: int,
    schedule: NoiseSchedule,
    per_mask: int = 1,
    is_full: bool = False,
) -> Views:
    """Return random views of the response that a trajectory's views are of.

    Args:
        traced: its views along the text (`views_of_text`): what is a target there is what is trained.
        seed: key of the draws; `trajectory.sampling.seed`.
        num_masks: masks drawn.
        schedule: how likely a token is hidden; every target weighs one.
        per_mask: views of each mask: 2 with its complement, 3 with a view of the whole response hidden too.
        is_full: whether the model's attention is full.

    Returns:
        `num_masks` views, or up to two or three times as many: masks first, each followed by its
        complement.
    """
    is_trained = traced.target.any(0)  # (C,)
    target, level = draw_masks(seed, num_masks, blocks_of(traced, is_full), is_trained, schedule)
    if per_mask == 1:
        return under_masks(traced, target, level, torch.arange(num_masks))
    # (masks, 2 or 3, C); the complement is hidden with probability 1 - t.
    whole = [is_trained.expand_as(target)] if per_mask == 3 else []
    ones = [torch.ones_like(level)] if per_mask == 3 else []
    return coupled_masks(
        traced,
        torch.stack((*whole, target, is_trained & ~target), 1),
        torch.stack((*ones, level, 1 - level), 1),
    )


def coupled_masks(traced: Views, target: Tensor, level: Tensor) -> Views:
    """Return the views of masks that come with their complements; each view weighs half.

    Args:
        traced: views along the text (`views_of_text`).
        target: `(masks, 2 or 3, C)` bool; a view without targets is left out.
        level: the probability with which each is hidden, of the same shape.
    """
    num_masks, per_mask = target.shape[:2]
    draw = torch.arange(num_masks).repeat_interleave(per_mask)
    has_target = target.flatten(0, 1).any(-1)  # (masks * per_mask,)
    target, level = (table.flatten(0, 1)[has_target] for table in (target, level))
    return under_masks(traced, target, level, draw[has_target], 0.5)


def under_masks(
    traced: Views,
    target: Tensor,
    level: Tensor,
    draw: Tensor,
    share: float | Tensor = 1.0,
) -> Views:
    """Return the views of a trajectory's response that hide given positions of it.

    Args:
        traced: views along the text (`views_of_text`).
        target: `(N, C)` bool.
        level: `(N, C)` or `(N, 1)`, the probability with which each position is hidden.
        draw: `(N,)` the estimate of the log-likelihood that each view belongs to.
        share: of each view in its estimate, one number or `(N, 1)`: a target weighs `share / level` there.
    """
    is_trained = traced.target.any(0)  # (C,)
    level = level.expand(target.shape)
    weight = torch.where(target, share / level, 0.0).double()
    hidden = target | ~is_trained
    if traced.pinned is not None:
        hidden &= ~traced.pinned
    return replace(
        traced,
        hidden=hidden,
        target=target,
        weight=torch.ones(target.shape),
        # Each position was written once, so all views along the text have the same log-probabilities.
        behavior_logprobs=traced.behavior_logprobs[:1].expand(len(target), -1),
        old_logprobs=traced.behavior_logprobs[:1].expand(len(target), -1),
        noise_level=level,
        estimate=Likelihood(weight, draw, is_trained),
    )


def blocks_of(traced: Views, is_full: bool) -> Tensor:
    """Return the block `(C,)` of each canvas position; all 0 under full attention."""
    # Blocks lie on the grid from position 0, so the prompt's tail belongs to the first one.
    offset = 0 if is_full else traced.prompt_ids.shape[0] % traced.block
    return (offset + torch.arange(traced.canvas_ids.shape[0])) // traced.block


def draw_masks(
    seed: int, num_masks: int, blocks: Tensor, is_trained: Tensor, schedule: NoiseSchedule
) -> tuple[Tensor, Tensor]:
    """Draw which of the trained positions each mask hides: at least one.

    Args:
        seed: key of the draws.
        num_masks: masks drawn.
        blocks: `(C,)` the block of each position.
        is_trained: `(C,)` bool, the positions that may be hidden; at least one.
        schedule: noise levels.

    Returns:
        `hidden` bool and the noise `level`, both `(num_masks, C)`; infinite at a position that is hidden
        only because nothing else is: it has no part in an estimate, which weighs it by the inverse.
    """
    drawn, level = draw_noise(seed, num_masks, blocks, schedule)
    # Below zero a position is hidden; the smallest distance came nearest to being hidden.
    distance = (drawn - level).masked_fill(~is_trained, torch.inf)
    is_nearest = torch.arange(blocks.shape[0]) == distance.argmin(-1, keepdim=True)
    is_added = is_nearest & ~(distance < 0).any(-1, keepdim=True)
    return (distance < 0) | is_added, level.masked_fill(is_added, torch.inf)
