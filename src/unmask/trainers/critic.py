"""The critic: how much a response could still earn, told just before each token was revealed.

A value model (`ValueModel`) reads the rows the policy is scored at: the state of the views that hold a
token hidden the moment before it was revealed. Once per RL step, before anything is updated, it
judges the step's trajectories, and every token gets an advantage of its own, along the denoising
steps (`objectives/value.py`). Then it takes optimizer steps of its own towards what came out, at its
own rate and cadence. Policy and critic share no weight, so which of them is updated first makes no
difference.

A reward that is one number stands on the last denoising step, as the advantage over its group; one
number per token (a process reward) is taken as it is: who gives it says what it is compared with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from unmask.configs.rl import RLConfig
from unmask.configs.value import ValueConfig
from unmask.diffusion.layout import Pack
from unmask.diffusion.views import Views
from unmask.models.checkpoint import load_value_model
from unmask.models.transformer import Model
from unmask.models.value_model import ValueModel
from unmask.objectives.advantages import overlong_penalty
from unmask.objectives.reduce import reduction_weights
from unmask.objectives.value import (
    advantage_variances,
    clipped_value_loss,
    explained_variance,
    is_value_clipped,
    number_steps,
    rewards_on_last_step,
    step_means,
    token_returns_and_advantages,
)
from unmask.trainers.learner import Learner, Objective, Terms, Update
from unmask.trainers.policy_update import minibatches, order_seed
from unmask.trainers.schedule import learning_rate
from unmask.types import Group, Trajectory


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
    values: Tensor
    returns: Tensor
    numbers: dict[str, float]


class Critic:
    """A value model under training."""

    def __init__(self, model: ValueModel, config: RLConfig) -> None:
        """Build the critic's own optimizer: that of the policy, at a rate of its own."""
        self.model = model
        self._config = config
        self._value = config.value
        self._optimizer = config.optimizer.model_copy(update={"lr": config.value.lr})
        self._learner = Learner(model, self._optimizer)

    @property
    def num_updates(self) -> int:
        """Optimizer steps it has taken."""
        return self._learner.num_updates

    def __call__(
        self, groups: Sequence[Group], views: Sequence[Views], step: int, seed: int
    ) -> tuple[list[Views], dict[str, float]]:
        """Judge an RL step's trajectories, then learn from them if it is due.

        Returns:
            The views with an advantage for each slot, and the numbers of the step; see `judge` and
            `update`.
        """
        judgement = self.judge(groups, views)
        return judgement.views, self.update(judgement, step, seed)

    def judge(self, groups: Sequence[Group], views: Sequence[Views]) -> Judgement:
        """Give every token an advantage of its own, under the current weights.

        Args:
            groups: what is trained on.
            views: of their trajectories in order, each slot a target of one view; their advantages,
                one number over a whole response, are what a reward that is one number counts.

        Raises:
            ValueError: a process reward is not one number per response token.
        """
        if not any(len(looks.target) for looks in views):
            return Judgement([], torch.zeros(0, 0), torch.zeros(0, 0), {})
        is_full = self.model.spec.is_full
        pairs = [pair for g in groups for pair in zip(g.trajectories, g.rewards, strict=True)]
        values = [found.sum(0) for found in self._learner.score(views)]
        steps = [
            denoising_steps(looks, trajectory.step_map, is_full)
            for looks, (trajectory, _) in zip(views, pairs, strict=True)
        ]
        rewards = [
            self._token_rewards(looks, trajectory, reward, step)
            for looks, (trajectory, reward), step in zip(views, pairs, steps, strict=True)
        ]
        told, earned, when = (
            pad_sequence(rows, batch_first=True) for rows in (values, rewards, steps)
        )
        returns, advantages = token_returns_and_advantages(
            told, earned, when, self._value.gamma, self._value.lam
        )
        judged = [
            replace(looks, advantages=row[: looks.canvas_ids.shape[0]].float())
            for looks, row in zip(views, advantages, strict=True)
        ]
        numbers = _quality(told, returns, advantages, when > 0)
        return Judgement(judged, told, returns, numbers)

    def update(self, judgement: Judgement, step: int, seed: int) -> dict[str, float]:
        """Learn from a step's trajectories if it is due, and return the numbers of the step.

        Args:
            judgement: what `judge` returned.
            step: RL step, counted from 1.
            seed: of the order of the minibatches.

        Raises:
            ValueError: the gradient is not finite; the weights are then untouched.
        """
        taught = [i for i, looks in enumerate(judgement.views) if len(looks.target)]
        if not taught or step % self._value.train_every:
            return judgement.numbers
        rate = learning_rate(self._optimizer, step - 1, self._config.steps)
        updates = [
            self._update(judgement, members, rate)
            for epoch in range(self._value.epochs)
            for members in minibatches(taught, self._value.minibatches, order_seed(seed, epoch))
        ]
        return judgement.numbers | _mean_numbers(updates)

    def state(self) -> dict[str, Tensor]:
        """Return what the weights do not hold: masters and optimizer moments."""
        return self._learner.state()

    def restore(self, tensors: Mapping[str, Tensor], num_updates: int) -> None:
        """Go on where a critic with the same weights and config stood; see `Learner.restore`."""
        self._learner.restore(tensors, num_updates)

    def _token_rewards(
        self,
        looks: Views,
        trajectory: Trajectory,
        reward: float | Sequence[float],
        steps: Tensor,
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
            self._config.advantage.overlong_tokens,
            self._config.advantage.overlong_penalty,
        )
        last = rewards_on_last_step(torch.tensor([taken], dtype=torch.float64), steps[None])
        return spread_rewards(torch.tensor(reward, dtype=torch.float64), steps) - last[0]

    def _update(self, judgement: Judgement, members: Sequence[int], rate: float) -> Update:
        views = [judgement.views[member] for member in members]
        weights, denominator = reduction_weights(
            [looks.target.sum(-1) for looks in views],
            self._config.objective.reduction,
            self._config.sampling.max_tokens,
        )
        weighted = [
            replace(looks, weight=looks.weight * weight[:, None])
            for looks, weight in zip(views, weights, strict=True)
        ]
        rows = torch.tensor(members)
        terms = build_value_terms(judgement.values[rows], judgement.returns[rows], self._value.clip)
        try:
            return self._learner.update(weighted, terms, denominator, rate)
        except ValueError as error:
            error.add_note("this is the critic's gradient: its learning rate is value.lr")
            raise


def build_critic(config: RLConfig, start: ValueConfig, policy: Model) -> Critic | None:
    """Load the critic a config asks for, beside the policy and in its number format.

    Args:
        config: the run's.
        start: what it starts from, or goes on with.
        policy: which it judges.

    Raises:
        ValueError: the views of the method are no denoising steps, the checkpoint has no value head
            to take, or is no model of the policy's kind.
    """
    if not config.value.enabled:
        return None
    if config.objective.method != "trace":
        raise ValueError(
            f'value.enabled needs objective.method = "trace": under {config.objective.method!r} no '
            "view is the state before a denoising step"
        )
    path = start.path or config.model.path
    model = load_value_model(path, policy.device, policy.dtype, start.head, policy.spec)
    for name in ("vocab_size", "attention", "is_shifted", "mask_id"):
        own, other = getattr(model.spec, name), getattr(policy.spec, name)
        if own != other:
            raise ValueError(
                f"value.path = {path}: its {name} is {own}, the policy's is {other}: the critic must "
                "read what the policy reads"
            )
    model.backbone.gradient_checkpointing = config.model.gradient_checkpointing
    return Critic(model, config)


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


def build_value_terms(values: Tensor, returns: Tensor, clip: float) -> Objective:
    """Return the critic's objective on a batch.

    Args:
        values: `(B, C)` of the critic that starts the step.
        returns: `(B, C)`.
        clip: how far a value may move.
    """

    def terms(now: Tensor, pack: Pack) -> Terms:
        trajectory, _, slot = pack.origin.to(values.device)
        old, target = (x[trajectory, slot].to(now) for x in (values, returns))
        loss = clipped_value_loss(now, old, target, clip)
        clipped = is_value_clipped(now.detach(), old, target, clip)
        return Terms(loss, {"value_mean": now, "value_clipped": clipped})

    return terms


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


def _mean_numbers(updates: Sequence[Update]) -> dict[str, float]:
    """Average the statistics of a step's updates; those every learner reports are named the critic's."""
    shared = {"gradient_norm": "value_gradient_norm", "learning_rate": "value_learning_rate"}
    first = updates[0].statistics
    kept = {name: shared.get(name, name) for name in first if name != "packed_tokens"}
    means = {
        new: sum(update.statistics[name] for update in updates) / len(updates)
        for name, new in kept.items()
    }
    return {"value_loss": sum(update.loss for update in updates) / len(updates), **means}
