"""Returns and advantages of every target of one RL step, from the values of a value model.

Values are read in the state in which a target was drawn; every target gets a return and an advantage of its
own, along the denoising steps (`objectives/value.py`). Where whole moves are scored, targets are all factors of
a move, drawn or lost: which positions those are follows from the state alone, so that values stay a baseline.
Which backbone the values came from makes no difference here.

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
        views: those given, with an advantage for each target.
        values: `(B, S)` of each trajectory's targets, view after view, padded with 0 to the most targets.
        returns: `(B, S)`, what the values are trained towards.
        metrics: how good the values were.
    """

    views: list[Views]
    values: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    returns: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    metrics: dict[str, float] = field(default_factory=dict)

    def columns(self) -> list[Mapping[str, Tensor]]:
        """Return `values` and `returns` of each trajectory, `(N, C)` each, 0 where there is no target."""
        columns = {"values": self.values, "returns": self.returns}
        return [
            {name: at_targets(rows[i], views) for name, rows in columns.items()}
            for i, views in enumerate(self.views)
        ]


def value_targets(
    groups: Sequence[Group], views: Sequence[Views], values: Sequence[Tensor], config: RLConfig
) -> ValueTargets:
    """Return returns and an advantage for every target.

    Args:
        groups: that are trained on.
        views: of their trajectories in order; their advantages, one number over a whole response, stand for a
            reward that is one number.
        values: `(N, C)` of each trajectory's targets.
        config: discount, lambda, and the over-length penalty.

    Raises:
        ValueError: a process reward is not one number per response token.
    """
    assert isinstance(config.advantage, ValueAdvantage | SharedValueAdvantage)
    if not any(len(v.target) for v in views):
        return ValueTargets([])
    pairs = [pair for g in groups for pair in zip(g.trajectories, g.rewards, strict=True)]
    steps = [denoising_steps(v) for v in views]
    rewards = [
        _target_rewards(v, trajectory, reward, step, config.shaping)
        for v, (trajectory, reward), step in zip(views, pairs, steps, strict=True)
    ]
    of_targets = [of_views[v.target] for of_views, v in zip(values, views, strict=True)]
    value, reward, step = (
        pad_sequence(rows, batch_first=True) for rows in (of_targets, rewards, steps)
    )
    returns, advantages = token_returns_and_advantages(
        value, reward, step, config.advantage.gamma, config.advantage.lam
    )
    found = [
        replace(v, advantages=at_targets(row.float(), v))
        for v, row in zip(views, advantages, strict=True)
    ]
    return ValueTargets(found, value, returns, _quality(value, returns, advantages, step > 0))


def at_targets(numbers: Tensor, views: Views) -> Tensor:
    """Return the first of `numbers (S,)` at the targets `(N, C)` of views, view after view, and 0 elsewhere."""
    table = numbers.new_zeros(views.target.shape)
    table[views.target] = numbers[: int(views.target.sum())]
    return table


def denoising_steps(views: Views) -> Tensor:
    """Return a number `(s,)` of each target's denoising step: equal within a step, and higher for later ones.

    The targets of a block in one view belong to one step, or to the steps that the view has merged (`shrink`).
    Blocks are written one after another, and the views of a block follow its steps.
    """
    view, position = views.target.nonzero(as_tuple=True)
    return 1 + views.block_of(position) * len(views.target) + view


def spread_rewards(rewards: Tensor, steps: Tensor, positions: Tensor) -> Tensor:
    """Lay the rewards `(R,)` of a response on its targets `(s,)`.

    Positions right of the response earn the mean of their denoising step, so that they change no
    step's mean; 0 where the step wrote nothing else.

    Args:
        rewards: of the response's tokens.
        steps: `(s,)` of the targets; see `denoising_steps`.
        positions: `(s,)` of the targets in the canvas.
    """
    is_response = positions < len(rewards)
    given = rewards[positions[is_response]]
    earned = rewards.new_zeros(positions.shape)
    earned[is_response] = given
    numbers = number_steps(steps[None])
    means = step_means(earned[None], numbers.masked_fill(~is_response, -1))[0]
    means = F.pad(means, (0, int(numbers.max()) + 1 - len(means)))
    return torch.where(is_response, earned, means[numbers[0]])


def _target_rewards(
    views: Views, trajectory: Trajectory, reward: Reward, steps: Tensor, shaping: ShapingConfig
) -> Tensor:
    """Return the reward of each target `(s,)`."""
    if not isinstance(reward, Sequence):
        return rewards_on_last_step(views.advantages[:1].double(), steps[None])[0]
    if len(reward) != trajectory.num_response:
        raise ValueError(
            f"the reward of prompt {trajectory.prompt.uid} has {len(reward)} numbers for a "
            f"response of {trajectory.num_response} tokens: give one number, or one per token"
        )
    penalty = torch.tensor([overlong_penalty(trajectory, shaping)], dtype=torch.float64)
    last = rewards_on_last_step(penalty, steps[None])
    positions = views.target.nonzero(as_tuple=True)[1]
    return spread_rewards(torch.tensor(reward, dtype=torch.float64), steps, positions) - last[0]


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
