"""The learner: views in, changed weights out.

One `update` is one optimizer step over any number of trajectories. They are laid out in packs under
a token budget; the loss is a weighted sum over targets divided by one denominator that was counted
over the whole batch, so how it was cut into packs does not matter. Optimizer state lives as long as
the learner, across RL steps.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unmask.configs.optimizer import OptimizerConfig
from unmask.diffusion.layout import Pack, pack_views
from unmask.diffusion.reference_sampler import Conventions
from unmask.diffusion.views import Views
from unmask.models.heads import Scores, Targets, drawable_ids
from unmask.models.spec import ModelSpec
from unmask.models.tiled_attention import plan_documents
from unmask.models.transformer import Model
from unmask.models.value_model import ActorCritic, ActorCriticScores, ValueModel
from unmask.trainers.master_weights import MasterWeights
from unmask.trainers.scorer import score_views


@dataclass(frozen=True, slots=True)
class Terms:
    """What an objective says of `S` targets.

    Attributes:
        loss: `(S,)`, to be weighted and summed.
        means: named `(S,)` numbers, reported as means over the batch's targets.
        maxima: named `(S,)` numbers, reported as maxima.
    """

    loss: Tensor
    means: Mapping[str, Tensor] = field(default_factory=dict)
    maxima: Mapping[str, Tensor] = field(default_factory=dict)


# What the model says of a pack's targets comes first: `Scores`, a critic's values `(S,)`, or both.
Objective = Callable[[Any, Pack], Terms]

# What AdamW remembers of a parameter.
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class Update(NamedTuple):
    """What one optimizer step reports."""

    loss: float
    statistics: dict[str, float]


class Learner:
    """A model under training, with its optimizer."""

    def __init__(
        self,
        model: Model | ValueModel | ActorCritic,
        config: OptimizerConfig,
        rates: Mapping[str, float] | None = None,
    ) -> None:
        """Build the optimizer of a model that is trained in place.

        Args:
            model: of any kind.
            config: of the optimizer.
            rates: parameters that have a learning rate of their own in place of `config.lr`, on the
                same schedule.

        Raises:
            ValueError: if the model's mask id is unknown.
        """
        self.model = model
        self.num_updates = 0
        self._config = config
        self._conventions = _conventions_of(model.spec)
        self._masters = MasterWeights(model)
        self._optimizer = torch.optim.AdamW(
            _parameter_groups(self._masters.named, config, rates or {}),
            lr=config.lr,
            betas=config.betas,
            eps=config.eps,
            fused=True,
        )

    def update(
        self,
        views: Sequence[Views],
        objective: Objective,
        denominator: float,
        rate: float | None = None,
    ) -> Update:
        """Take one optimizer step.

        Args:
            views: the batch; weights are in the views.
            objective: scores and pack to per-target terms.
            denominator: what the weighted sum of losses is divided by.
            rate: learning rate; the config's when not given.

        Raises:
            ValueError: if the gradient is not finite; the weights are then untouched.
        """
        packs = self._packs(views)
        totals = _Totals()
        for pack in packs:
            terms = objective(self._score(pack), pack)
            loss = (terms.loss * pack.weights).sum() / denominator
            loss.backward()
            self._masters.take_gradients()
            totals.add(loss.detach(), terms)
        gradient_norm = self._clip()
        rate = self._config.lr if rate is None else rate
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["share"]
        # Counted first: a signal that comes now must not take half an update for none.
        self.num_updates += 1
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._masters.write()
        tokens = sum(pack.tokens.shape[0] for pack in packs)
        extra = {"gradient_norm": gradient_norm, "learning_rate": rate, "packed_tokens": tokens}
        return Update(totals.loss, {**totals.statistics(), **extra})

    def reset_optimizer(self) -> None:
        """Forget the optimizer's moments; masters and the count of updates stay."""
        self._optimizer.state.clear()

    def state(self) -> dict[str, Tensor]:
        """Return masters and optimizer moments by parameter: all that the weights do not hold."""
        tensors = {f"master/{name}": master.detach() for name, master in self._masters.copies}
        for name, master in self._masters.named:
            for kind, value in self._optimizer.state[master].items():
                tensors[f"{kind}/{name}"] = value
        return tensors

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], num_updates: int) -> None:
        """Go on where a learner with the same model and config stood.

        Args:
            tensors: what `state` returned there; the weights are restored with the model.
            num_updates: optimizer steps it had taken.

        Raises:
            ValueError: it held its weights in another number format, or had other parameters.
        """
        copied = {f"master/{name}" for name, _ in self._masters.copies}
        if copied != {key for key in tensors if key.startswith("master/")}:
            raise ValueError(
                f"model.dtype: the checkpoint was not written by a run in {self.model.dtype}; "
                "set model.dtype and model.device as they were"
            )
        moments = {f"{kind}/{name}" for kind in MOMENTS for name, _ in self._masters.named}
        wrong = (tensors.keys() - copied) ^ moments
        if wrong and tensors.keys() - copied:  # before the first update there are none
            raise ValueError(
                f"the optimizer state is not this model's: {min(wrong)!r} is missing or unknown, "
                f"with {len(wrong) - 1} more"
            )
        for name, master in self._masters.copies:
            master.copy_(tensors[f"master/{name}"])
        by_name = dict(self._masters.named)
        for key in sorted(tensors.keys() & moments):
            kind, _, name = key.partition("/")
            master = by_name[name]
            # Fused AdamW wants its step count beside the weights as well.
            self._optimizer.state[master][kind] = tensors[key].to(master.device)
        self.num_updates = num_updates

    def score(self, views: Sequence[Views]) -> list[Tensor]:
        """Return what the current weights say of every trajectory's targets, `(N, C)`.

        Log-probabilities; values, if the model is a critic.
        """
        (found,) = self.read(views, _main_number)
        return found

    @torch.no_grad()
    def read(self, views: Sequence[Views], *columns: Callable[[Any], Tensor]) -> list[list[Tensor]]:
        """Read several numbers off one forward pass.

        Args:
            views: what is scored.
            columns: what the model says of a pack's targets to one number `(S,)` each.

        Returns:
            For each column its `(N, C)`, trajectory by trajectory.
        """
        return score_views(views, self._packs(views), self._score, columns)

    def _packs(self, views: Sequence[Views]) -> list[Pack]:
        packs = pack_views(views, self._conventions, self._config.token_budget)
        return [pack.to(self.model.device) for pack in packs]

    def _score(self, pack: Pack) -> Scores | ActorCriticScores | Tensor:
        return self.model(
            pack.tokens,
            pack.positions,
            plan_documents(pack.structure),
            pack.rows,
            Targets(pack.targets, pack.temperatures),
        )

    def _clip(self) -> float:
        masters = [master for _, master in self._masters.named]
        limit = self._config.clip_norm or torch.inf
        norm = float(torch.nn.utils.clip_grad_norm_(masters, limit))
        if not math.isfinite(norm):
            self._optimizer.zero_grad(set_to_none=True)
            raise ValueError(
                f"the gradient of update {self.num_updates + 1} is {norm}; the weights are untouched. "
                "Lower optimizer.lr, or look at the rewards of this step"
            )
        return norm


def _parameter_groups(
    named: Sequence[tuple[str, Tensor]], config: OptimizerConfig, rates: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Return what decays apart from what does not, and apart what has a learning rate of its own."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, weight in named:
        decay = config.weight_decay if weight.dim() >= 2 else 0.0
        share = rates[name] / config.lr if name in rates else 1.0
        groups.setdefault((decay, share), []).append(weight)
    return [
        {"params": weights, "weight_decay": decay, "share": share}
        for (decay, share), weights in groups.items()
    ]


def _main_number(scores: Scores | ActorCriticScores | Tensor) -> Tensor:
    return scores if isinstance(scores, Tensor) else scores.logprobs


def _conventions_of(spec: ModelSpec) -> Conventions:
    """Return what the layout must know of a model, which need not have a language head."""
    drawable = drawable_ids(spec)
    return Conventions(spec.require_mask_id(), drawable, spec.is_full, spec.is_shifted)


class _Totals:
    """Sums of a batch's terms over its packs."""

    def __init__(self) -> None:
        self._loss: list[Tensor] = []
        self._count = 0
        self._sums: dict[str, Tensor] = {}
        self._maxima: dict[str, Tensor] = {}

    def add(self, loss: Tensor, terms: Terms) -> None:
        self._loss.append(loss)
        self._count += terms.loss.shape[0]
        for name, values in terms.means.items():
            total = values.detach().double().sum()
            self._sums[name] = self._sums[name] + total if name in self._sums else total
        for name, values in terms.maxima.items():
            top = values.detach().double().max()
            self._maxima[name] = (
                torch.maximum(self._maxima[name], top) if name in self._maxima else top
            )

    @property
    def loss(self) -> float:
        return float(sum(self._loss))

    def statistics(self) -> dict[str, float]:
        means = {name: float(total) / self._count for name, total in self._sums.items()}
        return means | {name: float(top) for name, top in self._maxima.items()}
