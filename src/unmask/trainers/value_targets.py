"""The judgement: what a critic makes of one RL step's trajectories, before anything is updated.

Values are read just before each token was revealed; every token gets a return and an advantage of its
own, along the denoising steps (`objectives/value.py`). Whose backbone the values came from makes no
difference here.

A reward that is one number stands on the last denoising step, as the advantage over its group; one
number per token (a process reward) is taken as it is: who gives it says what it is compared with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from unmask.configs.rl import RLConfig
from unmask.diffusion.views import Views
from unmask.objectives.advantages import overlong_penalty
from unmask.objectives.value import (
    advantage_variances,
    explained_variance,
    number_steps,
    rewards_on_last_step,
    step_means,
    token_returns_and_advantages,
)
from unmask.types import Group, Reward, Trajectory


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the critic made of one RL step's trajectories, before any update.

    Attributes:
        views: those given, with an advantage for each slot.
        values: `(B, C)` of each trajectory's slots, padded to the longest canvas; 0 where a slot is
            not trained.
        returns: `(B, C)`, what the values should have been.
        numbers: how good they were, for the log.
    """

    views: list[Views]
    values: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    returns: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    numbers: dict[str, float] = field(default_factory=dict)

    def known(self) -> list[Mapping[str, Tensor]]:
        """Return what an objective needs of each trajectory's targets: `values` and `returns`, `(N, C)`."""
        return [
            {
                "values": values[: looks.target.shape[1]].expand(looks.target.shape),
                "returns": returns[: looks.target.shape[1]].expand(looks.target.shape),
            }
            for looks, values, returns in zip(self.views, self.values, self.returns, strict=True)
        ]


def judge(
    groups: Sequence[Group],
    views: Sequence[Views],
    values: Sequence[Tensor],
    config: RLConfig,
    is_full: bool,
) -> Judgement:
    """Give every token an advantage of its own.

    Args:
        groups: what is trained on.
        views: of their trajectories in order, each slot a target of one view; their advantages,
            one number over a whole response, are what a reward that is one number counts.
        values: `(N, C)` of each trajectory's targets, 0 elsewhere.
        config: discount, how far an advantage looks, and the over-length penalty.
        is_full: whether a canvas is one block.

    Raises:
        ValueError: a process reward is not one number per response token.
    """
    if not any(len(looks.target) for looks in views):
        return Judgement([])
    pairs = [pair for g in groups for pair in zip(g.trajectories, g.rewards, strict=True)]
    steps = [
        denoising_steps(looks, trajectory.step_map, is_full)
        for looks, (trajectory, _) in zip(views, pairs, strict=True)
    ]
    rewards = [
        _token_rewards(looks, trajectory, reward, step, config)
        for looks, (trajectory, reward), step in zip(views, pairs, steps, strict=True)
    ]
    of_slots = [found.sum(0) for found in values]
    told, earned, when = (
        pad_sequence(rows, batch_first=True) for rows in (of_slots, rewards, steps)
    )
    returns, advantages = token_returns_and_advantages(
        told, earned, when, config.value.gamma, config.value.lam
    )
    judged = [
        replace(looks, advantages=row[: looks.canvas_ids.shape[0]].float())
        for looks, row in zip(views, advantages, strict=True)
    ]
    return Judgement(judged, told, returns, _quality(told, returns, advantages, when > 0))


def denoising_steps(looks: Views, step_map: Sequence[int], is_full: bool) -> Tensor:
    """Return the denoising step `(C,)` of each target, and 0 elsewhere.

    Reveals that a view has merged are one step, the latest of them (`shrink`).

    Args:
        looks: the views, in which each slot is a target once at most.
        step_map: of the trajectory, at most `C` long.
        is_full: whether the canvas is one block.
    """
    num_views, num_slots = looks.target.shape
    if num_views == 0:
        return torch.zeros(num_slots, dtype=torch.int64)
    assert int(looks.target.sum(0).max()) <= 1, "a slot is revealed once"
    offset = 0 if is_full else looks.prompt_ids.shape[0] % looks.block
    block = torch.zeros(num_slots) if is_full else (torch.arange(num_slots) + offset) // looks.block
    reveal = block.long() * num_views + looks.target.long().argmax(0)
    is_trained = looks.target.any(0)
    # A canvas that was filled up to larger blocks has more slots than its trajectory.
    steps = F.pad(torch.tensor(step_map), (0, num_slots - len(step_map)))
    steps = steps.masked_fill(~is_trained, 0)
    latest = steps.new_zeros(int(reveal.max()) + 1).scatter_reduce(0, reveal, steps, "amax")
    return latest[reveal].masked_fill(~is_trained, 0)


def spread_rewards(rewards: Tensor, steps: Tensor) -> Tensor:
    """Lay the rewards `(R,)` of a response on its canvas `(C,)`.

    Slots right of the response earn what their denoising step did on average, so that they change
    no step's mean; nothing, where the step wrote nothing else.
    """
    num_response, num_slots = rewards.shape[0], steps.shape[0]
    given = F.pad(rewards, (0, num_slots - num_response))[None]
    numbers = number_steps(steps[None])
    is_response = (torch.arange(num_slots) < num_response)[None]
    means = step_means(given, numbers.masked_fill(~is_response, -1))
    means = F.pad(means, (0, int(numbers.max()) + 1 - means.shape[1]))
    return torch.where(is_response, given, means.gather(1, numbers.clamp(min=0)))[0]


def _token_rewards(
    looks: Views, trajectory: Trajectory, reward: Reward, steps: Tensor, config: RLConfig
) -> Tensor:
    """Lay a reward on the canvas `(C,)`."""
    if not isinstance(reward, Sequence):
        return rewards_on_last_step(looks.advantages[:1].double(), steps[None])[0]
    if len(reward) != trajectory.num_response:
        raise ValueError(
            f"the reward of prompt {trajectory.prompt.uid} has {len(reward)} numbers for a "
            f"response of {trajectory.num_response} tokens: give one number, or one per token"
        )
    taken = overlong_penalty(
        trajectory.num_response,
        trajectory.sampling.max_tokens,
        config.advantage.overlong_tokens,
        config.advantage.overlong_penalty,
    )
    last = rewards_on_last_step(torch.tensor([taken], dtype=torch.float64), steps[None])
    return spread_rewards(torch.tensor(reward, dtype=torch.float64), steps) - last[0]


def _quality(
    values: Tensor, returns: Tensor, advantages: Tensor, is_trained: Tensor
) -> dict[str, float]:
    """Return how much of the returns the values knew, over the trained tokens."""
    told, came, left = (x[is_trained] for x in (values, returns, advantages))
    if not len(told):
        return {}
    with_critic, without = advantage_variances(left, came)
    return {
        "value_explained_variance": explained_variance(told, came),
        "advantage_variance": with_critic,
        "advantage_variance_without_critic": without,
    }
