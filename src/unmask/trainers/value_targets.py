"""Returns and advantages of every token of one RL step, from the values of a value model.

Values are read just before each token was revealed; every token gets a return and an advantage of its
own, along the denoising steps (`objectives/value.py`). Which backbone the values came from makes no
difference here.

A reward that is one number stands on the last denoising step, as the advantage over its group; one
number per token (a process reward) is taken as it is, without a baseline.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from unmask.configs.methods.advantage.shared_value import SharedValueAdvantage
from unmask.configs.methods.advantage.value import ValueAdvantage
from unmask.configs.rl import RLConfig
from unmask.configs.rollout import ShapingConfig
from unmask.diffusion.views import Views
from unmask.objectives.value import (
    advantage_variances,
    explained_variance,
    number_steps,
    rewards_on_last_step,
    step_means,
    token_returns_and_advantages,
)
from unmask.rollouts.shaping import overlong_penalty
from unmask.types import Group, Reward, Trajectory


@dataclass(frozen=True, slots=True)
class ValueTargets:
    """Values, returns and advantages of one RL step's trajectories, before any update.

    Attributes:
        views: those given, with an advantage for each position.
        values: `(B, C)` of each trajectory's positions, padded to the longest canvas; 0 where a position
            is not trained.
        returns: `(B, C)`, what the values are trained towards.
        metrics: how good the values were.
    """

    views: list[Views]
    values: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    returns: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    metrics: dict[str, float] = field(default_factory=dict)

    def columns(self) -> list[Mapping[str, Tensor]]:
        """Return `values` and `returns` of each trajectory's targets, `(N, C)` each."""
        columns = {"values": self.values, "returns": self.returns}  # (B, C of the longest canvas)
        shapes = [views.target.shape for views in self.views]  # (N, C) of each canvas
        return [
            {name: rows[i, : shape[1]].expand(shape) for name, rows in columns.items()}
            for i, shape in enumerate(shapes)
        ]


def value_targets(
    groups: Sequence[Group],
    views: Sequence[Views],
    values: Sequence[Tensor],
    config: RLConfig,
    is_full: bool,
) -> ValueTargets:
    """Return returns and an advantage for every token.

    Args:
        groups: that are trained on.
        views: of their trajectories in order, each position a target of one view; their advantages,
            one number over a whole response, stand for a reward that is one number.
        values: `(N, C)` of each trajectory's targets, 0 elsewhere.
        config: discount, lambda, and the over-length penalty.
        is_full: whether a canvas is one block.

    Raises:
        ValueError: a process reward is not one number per response token.
    """
    assert isinstance(config.advantage, ValueAdvantage | SharedValueAdvantage)
    if not any(len(v.target) for v in views):
        return ValueTargets([])
    pairs = [pair for g in groups for pair in zip(g.trajectories, g.rewards, strict=True)]
    steps = [
        denoising_steps(v, trajectory.step_map, is_full)
        for v, (trajectory, _) in zip(views, pairs, strict=True)
    ]
    rewards = [
        _token_rewards(v, trajectory, reward, step, config.shaping)
        for v, (trajectory, reward), step in zip(views, pairs, steps, strict=True)
    ]
    # Each position is a target of one view: the sum over views (N, C) -> (C,) is its value.
    of_positions = [of_views.sum(0) for of_views in values]
    value, reward, step = (
        pad_sequence(rows, batch_first=True) for rows in (of_positions, rewards, steps)
    )
    returns, advantages = token_returns_and_advantages(
        value, reward, step, config.advantage.gamma, config.advantage.lam
    )
    found = [
        replace(v, advantages=row[: v.canvas_ids.shape[0]].float())
        for v, row in zip(views, advantages, strict=True)
    ]
    return ValueTargets(found, value, returns, _quality(value, returns, advantages, step > 0))


def denoising_steps(views: Views, step_map: Sequence[int], is_full: bool) -> Tensor:
    """Return the denoising step `(C,)` of each target, and 0 elsewhere.

    Reveals that a view has merged are one step, the latest of them (`shrink`).

    Args:
        views: in which each position is a target once at most.
        step_map: of the trajectory, at most `C` long.
        is_full: whether the canvas is one block.
    """
    num_views, num_positions = views.target.shape
    if num_views == 0:
        return torch.zeros(num_positions, dtype=torch.int64)
    assert int(views.target.sum(0).max()) <= 1, "a position is revealed once"
    offset = 0 if is_full else views.prompt_ids.shape[0] % views.block
    position = torch.arange(num_positions)
    block = torch.zeros_like(position) if is_full else (position + offset) // views.block
    # One number for each (block, view): the reveal that a position belongs to.
    reveal = block * num_views + views.target.long().argmax(0)
    is_trained = views.target.any(0)
    # A canvas that was padded to larger blocks has more positions than its trajectory.
    steps = F.pad(torch.tensor(step_map), (0, num_positions - len(step_map)))
    steps = steps.masked_fill(~is_trained, 0)
    latest = steps.new_zeros(int(reveal.max()) + 1).scatter_reduce(0, reveal, steps, "amax")
    return latest[reveal].masked_fill(~is_trained, 0)


def spread_rewards(rewards: Tensor, steps: Tensor) -> Tensor:
    """Lay the rewards `(R,)` of a response on its canvas `(C,)`.

    Positions right of the response earn the mean of their denoising step, so that they change no
    step's mean; 0 where the step wrote nothing else.
    """
    num_response, num_positions = rewards.shape[0], steps.shape[0]
    given = F.pad(rewards, (0, num_positions - num_response))[None]
    numbers = number_steps(steps[None])
    is_response = (torch.arange(num_positions) < num_response)[None]
    means = step_means(given, numbers.masked_fill(~is_response, -1))
    means = F.pad(means, (0, int(numbers.max()) + 1 - means.shape[1]))
    return torch.where(is_response, given, means.gather(1, numbers.clamp(min=0)))[0]


def _token_rewards(
    views: Views, trajectory: Trajectory, reward: Reward, steps: Tensor, shaping: ShapingConfig
) -> Tensor:
    """Return the reward of each position of the canvas `(C,)`."""
    if not isinstance(reward, Sequence):
        return rewards_on_last_step(views.advantages[:1].double(), steps[None])[0]
    if len(reward) != trajectory.num_response:
        raise ValueError(
            f"the reward of prompt {trajectory.prompt.uid} has {len(reward)} numbers for a "
            f"response of {trajectory.num_response} tokens: give one number, or one per token"
        )
    penalty = torch.tensor([overlong_penalty(trajectory, shaping)], dtype=torch.float64)
    last = rewards_on_last_step(penalty, steps[None])
    return spread_rewards(torch.tensor(reward, dtype=torch.float64), steps) - last[0]


def _quality(
    values: Tensor, returns: Tensor, advantages: Tensor, is_trained: Tensor
) -> dict[str, float]:
    """Return how much of the returns the values explain, over the trained tokens."""
    values, returns, advantages = (x[is_trained] for x in (values, returns, advantages))
    if not len(values):
        return {}
    with_values, without = advantage_variances(advantages, returns)
    return {
        "value_explained_variance": explained_variance(values, returns),
        "advantage_variance": with_values,
        "advantage_variance_without_critic": without,
    }
