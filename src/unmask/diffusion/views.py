"""Views: all the noisy looks at one trajectory that a training step scores.

Every training method is a function to this record. RL builds it from the trajectory the sampler
really took (`views_of_trajectory`), SFT from a response and fresh noise (`views_of_response`). The
canvas is always whole blocks on the grid that starts at absolute position 0, because the
conditional of a token depends on everything its block held.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.diffusion.noise import NoiseSchedule, draw_noise
from unmask.diffusion.trace import trace_views
from unmask.types import Trajectory


@dataclass(frozen=True, slots=True)
class Views:
    """The noisy views of one trajectory.

    Attributes:
        prompt_ids: `(P,)`.
        canvas_ids: `(C,)`, whole blocks: `(P mod K + C) mod K = 0`.
        hidden: `(N, C)` bool, slots that hold the mask token in each view.
        target: `(N, C)` bool, slots predicted in each view; a subset of `hidden`.
        weight: `(N, C)`, what each target counts in the loss.
        advantages: `(C,)`.
        behavior_logprobs: `(C,)`, from the engine when the slot was revealed; 0 where there is no
            engine.
        old_logprobs: `(N, C)`, under the policy that starts the step, given each view. The engine's
            own, unless the learner scores them again because its views are not those of the engine
            (`shrink > 1`).
        temperature: what log-probabilities are taken at.
        block: `K`.
    """

    prompt_ids: Tensor
    canvas_ids: Tensor
    hidden: Tensor
    target: Tensor
    weight: Tensor
    advantages: Tensor
    behavior_logprobs: Tensor
    old_logprobs: Tensor
    temperature: float
    block: int


def views_of_trajectory(
    trajectory: Trajectory,
    advantage: float | Sequence[float],
    shrink: int = 1,
    post_num: int = 0,
) -> Views:
    """Return the views of the path a trajectory took.

    Targets are the response's slots, and the first `post_num` revealed slots right of it.

    Args:
        trajectory: what the engine wrote.
        advantage: one number, or one per response token.
        shrink: neighbouring reveals merged into one view.
        post_num: slots right of the response that are trained too.

    Raises:
        ValueError: if a revealed token was changed later: no single step wrote it.
    """
    if trajectory.revised:
        raise ValueError(
            f"the trajectory of prompt {trajectory.prompt.uid} changed revealed tokens "
            f"(strategy = {trajectory.sampling.strategy!r}); train on a strategy that does not revise"
        )
    block = trajectory.sampling.block_size
    assert block is not None
    prompt_ids = torch.tensor(trajectory.prompt.token_ids, dtype=torch.int64)
    step_map = torch.tensor(trajectory.step_map)
    hidden, target = trace_views(step_map, block, prompt_ids.shape[0] % block, shrink)
    slot = torch.arange(step_map.shape[0])
    # Right of a stop only: what stands past `max_tokens` is cut off, not after the end.
    after = (slot >= trajectory.num_response) & (step_map > 0) & (trajectory.finish == "stop")
    is_trained = (slot < trajectory.num_response) | (after & (after.cumsum(0) <= post_num))
    target = target & is_trained
    kept = target.any(-1)
    behavior_logprobs = torch.tensor(trajectory.behavior_logprobs, dtype=torch.float64)
    return Views(
        prompt_ids=prompt_ids,
        canvas_ids=torch.tensor(trajectory.canvas_ids),
        hidden=hidden[kept],
        target=target[kept],
        weight=torch.ones(int(kept.sum()), slot.shape[0]),
        advantages=_per_slot(advantage, trajectory),
        behavior_logprobs=behavior_logprobs,
        old_logprobs=behavior_logprobs.expand(int(kept.sum()), -1),
        temperature=trajectory.sampling.temperature or 1.0,
        block=block,
    )


def _per_slot(advantage: float | Sequence[float], trajectory: Trajectory) -> Tensor:
    """Spread an advantage over the canvas; slots right of the response take its last token's."""
    num_slots, num_response = len(trajectory.canvas_ids), trajectory.num_response
    if not isinstance(advantage, Sequence):
        return torch.full((num_slots,), float(advantage))
    assert len(advantage) == num_response
    values = torch.tensor(advantage, dtype=torch.float32)
    return torch.cat((values, values[-1:].expand(num_slots - num_response)))


def views_of_responses(
    demonstrations: Sequence[tuple[Sequence[int], Sequence[int]]],
    block: int,
    noise: tuple[NoiseSchedule, int],
    seeds: Sequence[int],
) -> list[Views]:
    """Return fresh noisy views of given responses.

    A response is padded to whole blocks with slots that are hidden in every view and never scored:
    the model meets them as the sampler will, still masked.

    Args:
        demonstrations: prompts of `P` and responses of `R` token ids, end-of-text included.
        block: `K`.
        noise: noise levels, and how many views are drawn of each response.
        seeds: keys of the draws, one each; a response's noise does not depend on the others.
    """
    if not demonstrations:
        return []
    schedule, num_views = noise
    offsets = torch.tensor([len(prompt_ids) % block for prompt_ids, _ in demonstrations])
    longest = max(len(response_ids) for _, response_ids in demonstrations)
    # Drawn for all at once: the hash is many small operations.
    blocks = (torch.arange(longest) + offsets[:, None]) // block
    targets, weights = draw_noise(torch.tensor(seeds), num_views, blocks, schedule)
    return [
        _views_under_noise(*pair, block, target, weight)
        for pair, target, weight in zip(demonstrations, targets, weights, strict=True)
    ]


def _views_under_noise(
    prompt_ids: Sequence[int],
    response_ids: Sequence[int],
    block: int,
    target: Tensor,
    weight: Tensor,
) -> Views:
    """Return the views of a response of `R` tokens that hide `target (N, >= R)`."""
    num_response = len(response_ids)
    num_slots = num_response + -(len(prompt_ids) + num_response) % block
    padding = (0, num_slots - num_response)
    target = target[:, :num_response]
    return Views(
        prompt_ids=torch.tensor(prompt_ids, dtype=torch.int64),
        canvas_ids=torch.tensor([*response_ids, *[0] * padding[1]], dtype=torch.int64),
        hidden=F.pad(target, padding, value=True),
        target=F.pad(target, padding),
        weight=F.pad(weight[:, :num_response], padding),
        advantages=torch.ones(()).expand(num_slots),
        behavior_logprobs=torch.zeros((), dtype=torch.float64).expand(num_slots),
        old_logprobs=torch.zeros((), dtype=torch.float64).expand(target.shape[0], num_slots),
        temperature=1.0,
        block=block,
    )
