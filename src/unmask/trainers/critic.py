"""The critic: how much a response could still earn, told just before each token was revealed.

A value model reads the rows the policy is scored at: the state of the views that hold a token hidden
the moment before it was revealed. Once per RL step, before anything is updated, it judges the step's
trajectories (`judgement.py`). It stands in one of three places (`critic_model.py` says how it starts):

    a backbone of its own   `Critic`, trained in steps of its own, at its own rate and cadence
    adapters of its own     the same; beside `[lora]` on the policy's frozen weights, which are held once
    the policy's backbone   `SharedCritic`: a second head, trained in the policy's own steps

A critic of its own shares no trained weight with the policy, so which of the two is updated first
makes no difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor

from unmask.configs.rl import RLConfig
from unmask.diffusion.views import Views
from unmask.models.value_model import ActorCritic, ActorCriticScores, ValueModel
from unmask.trainers.learner import Learner, Update
from unmask.trainers.losses import build_value_terms
from unmask.trainers.policy_update import minibatches, order_seed, weighted_views
from unmask.trainers.schedule import learning_rate
from unmask.trainers.scorer import tables_of
from unmask.trainers.value_targets import Judgement, judge
from unmask.types import Group


class Critic:
    """A value model under training, in optimizer steps of its own.

    Attributes:
        model: backbone and value head.
        learner: what trains them.
    """

    def __init__(self, model: ValueModel, config: RLConfig) -> None:
        """Build the critic's own optimizer: that of the policy, at a rate of its own."""
        self.model = model
        self._config = config
        self._value = config.value
        self._optimizer = config.optimizer.model_copy(update={"lr": config.value.lr})
        self._terms = build_value_terms(config.value.clip)
        self.learner = Learner(model, self._optimizer)

    def judge(self, groups: Sequence[Group], views: Sequence[Views]) -> Judgement:
        """Give every token an advantage of its own, under the current weights; see `judgement.judge`."""
        values = self.learner.score(views)
        return judge(groups, views, values, self._config, self.model.spec.is_full)

    def update(self, judgement: Judgement, step: int, seed: int) -> dict[str, float]:
        """Learn from a step's trajectories if it is due, and return the numbers of the step.

        Args:
            judgement: what `judge` returned.
            step: RL step, counted from 1.
            seed: of the order of the minibatches.

        Raises:
            ValueError: the gradient is not finite; the weights are then untouched.
        """
        known = zip(judgement.views, judgement.known(), strict=True)
        taught = [pair for pair in known if len(pair[0].target)]
        if not taught or step % self._value.train_every:
            return judgement.numbers
        if self._config.optimizer.reset_every_step:
            self.learner.reset_optimizer()
        rate = learning_rate(self._optimizer, step - 1, self._config.steps)
        updates = [
            self._update(part, rate)
            for epoch in range(self._value.epochs)
            for part in minibatches(taught, self._value.minibatches, order_seed(seed, epoch))
        ]
        return judgement.numbers | _mean_numbers(updates)

    def _update(self, part: Sequence[tuple[Views, Mapping[str, Tensor]]], rate: float) -> Update:
        weighted, denominator = weighted_views([looks for looks, _ in part], self._config)
        known = [row for _, row in part]
        try:
            terms = partial(self._terms, known=tables_of(known, self.model.device))
            return self.learner.update(weighted, terms, denominator, rate)
        except ValueError as error:
            error.add_note("this is the critic's gradient: its learning rate is value.lr")
            raise


class SharedCritic:
    """A second head on the policy's backbone, which the policy's learner trains.

    Attributes:
        model: the policy and the value head.
    """

    def __init__(self, model: ActorCritic, learner: Learner, config: RLConfig) -> None:
        """Judge with what `learner` trains, which is `model`."""
        self.model = model
        self._learner = learner
        self._config = config

    def judge(self, groups: Sequence[Group], views: Sequence[Views]) -> Judgement:
        """Give every token an advantage of its own, as a critic of its own would.

        The same forward pass says the old log-probabilities, so the views come back with both.
        """
        values, old = self._learner.read(views, _values, _logprobs)
        scored = [replace(v, old_logprobs=o) for v, o in zip(views, old, strict=True)]
        return judge(groups, scored, values, self._config, self.model.spec.is_full)


def _values(scores: ActorCriticScores) -> Tensor:
    return scores.values


def _logprobs(scores: ActorCriticScores) -> Tensor:
    return scores.logprobs


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
