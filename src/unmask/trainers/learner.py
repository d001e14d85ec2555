"""The learner: views in, updated weights out.

One `update` is one optimizer step over any number of trajectories. They are laid out in packs under
a token budget; the loss is a weighted sum over targets divided by one denominator that was counted
over the whole batch, so how it was cut into packs does not matter. Optimizer state lives as long as
the learner, across RL steps.

On several ranks every rank has the whole batch, computes its share of the packs, and holds a part of weights,
masters and moments (`distributed/sharding.py`).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unmask.configs.optimizer import OptimizerSection
from unmask.diffusion.layout import Pack, pack_views
from unmask.diffusion.views import Views
from unmask.distributed.sharding import hollow, local, sharded, whole, whole_model, whole_weights
from unmask.distributed.world import ALONE, World
from unmask.engine.scoring import score_pack, score_views
from unmask.models.conventions import conventions_of
from unmask.models.heads import Scores
from unmask.models.transformer import Model
from unmask.models.value_model import ActorCritic, ActorCriticScores, ValueModel
from unmask.objectives.loss import LossOutput
from unmask.objectives.statistics import Metric, StatisticSums
from unmask.trainers.master_weights import MasterWeights
from unmask.trainers.optimizers import build_optimizer
from unmask.trainers.pack_budget import build_budget, lengths_of

# Scores of a pack's targets (`Scores`, values `(S,)`, or both) and the pack, to their loss.
Objective = Callable[[Any, Pack], LossOutput]


class Update(NamedTuple):
    """The loss and the metrics of one optimizer step."""

    loss: float
    metrics: dict[str, Metric]

    @property
    def values(self) -> dict[str, float]:
        """The metrics' values by name."""
        return {name: metric.value for name, metric in self.metrics.items()}


class Learner:
    """A model under training, with its optimizer."""

    def __init__(
        self,
        model: Model | ValueModel | ActorCritic,
        config: OptimizerSection,
        rates: Mapping[str, float] | None = None,
        world: World = ALONE,
    ) -> None:
        """Build the optimizer of a model: trained in place by one process, as a sharded twin by several.

        Args:
            model: of any kind, whole.
            config: of the optimizer.
            rates: parameters that have a learning rate of their own in place of `config.lr`, on the
                same schedule.
            world: the ranks that train it together.

        Raises:
            ValueError: if the model's mask id is unknown.
        """
        self.model = sharded(model, world)
        self._shell = hollow(model) if world.mesh else model
        self.num_updates = 0
        self._config, self._world = config, world
        self._conventions = conventions_of(model)
        self._masters = MasterWeights(self.model, config.offload)
        self._parts = build_optimizer(self._masters.named, config, rates or {})
        self._optimizers = [part.optimizer for part in self._parts]
        # Shards differ by their padding: the budget is that of the largest.
        state = max(world.gather(sum(self._bytes()))) if isinstance(config.memory, float) else 0
        self.budget = build_budget(self.model, config.token_budget, config.memory, state)

    def update(
        self,
        views: Sequence[Views],
        objective: Objective,
        denominator: float,
        rate: float | None = None,
    ) -> Update:
        """Take one optimizer step.

        Args:
            views: the batch, the same on every rank; weights are in the views.
            objective: scores and pack to a loss per target.
            denominator: of the weighted sum of losses.
            rate: learning rate; the config's when not given.

        Raises:
            ValueError: if the gradient is not finite; the weights are then untouched.
        """
        packs = self._packs(views)

        def shares() -> Iterator[tuple[Tensor, LossOutput]]:
            for pack in packs:
                output = objective(score_pack(self.model, pack), pack)
                yield (output.loss * pack.weights).sum() / denominator, output

        return self.minimise(shares(), sum(pack.tokens.shape[0] for pack in packs), rate)

    def minimise(
        self,
        shares: Iterable[tuple[Tensor, LossOutput]],
        num_tokens: int,
        rate: float | None = None,
    ) -> Update:
        """Take one optimizer step on a loss that is given in shares.

        Args:
            shares: each `()` share of the loss with the output it is a sum of; the gradient of one is taken before
                the next one is computed.
            num_tokens: of all passes of this rank.
            rate: learning rate; the config's when not given.

        Raises:
            ValueError: if the gradient is not finite; the weights are then untouched.
        """
        sums, losses = StatisticSums(), list[Tensor]()
        for loss, output in shares:
            loss.backward()
            self._masters.take_gradients()
            losses.append(loss.detach())
            sums.add(output.statistics, len(output.loss))
        gradient_norm = self._clip()
        rate = self._config.lr if rate is None else rate
        self._set_rate(rate)
        # Increment before stepping: the signal handler reads this counter to detect a half-applied update.
        self.num_updates += 1
        for optimizer in self._optimizers:
            optimizer.step()
        self._zero_grad()
        self._masters.write()
        loss, tokens, sums = self._over_ranks(float(sum(losses)), num_tokens, sums)
        own = {
            "gradient_norm": Metric(gradient_norm),
            "learning_rate": Metric(rate),
            "packed_tokens": Metric(tokens, "sum"),
        }
        return Update(loss, {**sums.metrics(), **own})

    def whole_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield name and weight of what an engine with a copy of its own must take over: a collective."""
        assert not isinstance(self.model, ValueModel), "no engine samples from a value model"
        return whole_weights(self.model, self._world)

    def whole_model(self, is_trained_only: bool = False) -> Model | ValueModel | ActorCritic:
        """Return the model with whole weights, on several ranks a copy on rank 0: a collective.

        Args:
            is_trained_only: without memory for frozen weights; see `sharding.whole_model`.
        """
        return whole_model(self.model, self._shell, self._world, is_trained_only)

    @property
    def masters(self) -> dict[str, Tensor]:
        """The weights that the optimizer changes, by name of the parameter."""
        return dict(self._masters.named)

    def _over_ranks(
        self, loss: float, tokens: int, sums: StatisticSums
    ) -> tuple[float, int, StatisticSums]:
        """Return the loss, the packed tokens and the statistics of all ranks."""
        if self._world.size == 1:
            return loss, tokens, sums
        found = self._world.gather((loss, tokens, sums.on_host()))
        merged = StatisticSums()
        for _, _, of_rank in found:
            merged.merge(of_rank)
        return sum(loss for loss, _, _ in found), sum(tokens for _, tokens, _ in found), merged

    @property
    def memory(self) -> str:
        """Bytes of this rank's weights, masters, gradients and moments in a step, as text."""
        device, optimizer = self._bytes()
        per_rank = "" if self._world.size == 1 else " per rank"
        if self._config.offload:
            return f"{_gib(device)} on the device and {_gib(optimizer)} in host memory{per_rank}"
        return f"{_gib(device + optimizer)}{per_rank}"

    def _bytes(self) -> tuple[int, int]:
        """Return the bytes of this rank's weights and gradients, and of its masters and moments."""
        weights = sum(local(p).nbytes for p in self.model.parameters())
        gradients = sum(local(p).nbytes for p in self.model.parameters() if p.requires_grad)
        masters = [(part, local(master)) for part in self._parts for master in part.parameters]
        moments = sum(part.bytes_of(master) for part, master in masters)
        return weights + gradients, self._masters.num_bytes + int(moments)

    def reset_optimizer(self) -> None:
        """Clear the optimizer's moments; masters and the count of updates stay."""
        for optimizer in self._optimizers:
            optimizer.state.clear()

    def state(self) -> dict[str, Tensor]:
        """Return masters and optimizer moments by parameter: all that the weights do not hold."""
        tensors = {f"master/{name}": master.detach() for name, master in self._masters.copies}
        names = {master: name for name, master in self._masters.named}
        for part in self._parts:
            for master in part.parameters:
                moments = part.tensors_of(part.optimizer.state.get(master, {}))
                tensors |= {f"{kind}/{names[master]}": value for kind, value in moments.items()}
        return tensors

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], num_updates: int) -> None:
        """Restore the state of a learner with the same model and config.

        Args:
            tensors: returned by `state` there; the weights are restored with the model.
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
        moments = {key: value for key, value in tensors.items() if key not in copied}
        if moments:  # before the first update there are none
            self._restore_moments(moments)
        for name, master in self._masters.copies:
            master.copy_(tensors[f"master/{name}"])
        self.num_updates = num_updates

    def _restore_moments(self, moments: Mapping[str, Tensor]) -> None:
        """Give every parameter its moments, after a check that these are all of them."""
        names = {master: name for name, master in self._masters.named}
        by_name: dict[str, dict[str, Tensor]] = {}
        for key, value in moments.items():
            kind, _, name = key.partition("/")
            by_name.setdefault(name, {})[kind] = value
        expected = {
            f"{kind}/{names[master]}"
            for part in self._parts
            for master in part.parameters
            for kind in part.kinds_of(master)
        }
        wrong = expected ^ moments.keys()
        if wrong:
            raise ValueError(
                f"the optimizer state is not this model's: {min(wrong)!r} is missing or unknown, "
                f"with {len(wrong) - 1} more"
            )
        for part in self._parts:
            for master in part.parameters:
                part.optimizer.state[master] = part.state_of(master, by_name[names[master]])

    def score(self, views: Sequence[Views]) -> list[Tensor]:
        """Return the log-probability of every trajectory's targets, `(N, C)`; of a value model its values."""
        (found,) = self.read(views, _main_column)
        return found

    def read(self, views: Sequence[Views], *columns: Callable[[Any], Tensor]) -> list[list[Tensor]]:
        """Return several numbers of every target from one forward pass, without gradients.

        Args:
            views: of several trajectories.
            columns: each turns the scores of a pack into one number `(S,)` per target.

        Returns:
            For each column its `(N, C)`, trajectory by trajectory.
        """
        return score_shares(self.model, views, self._packs(views), columns, self._world)

    def _packs(self, views: Sequence[Views]) -> list[Pack]:
        """Return this rank's packs; every rank has as many."""
        budget, world = self.budget(lengths_of(views)), self._world
        packs = pack_views(views, self._conventions, budget, world.rank, world.size)
        return [pack.to(self.model.device) for pack in packs]

    def _set_rate(self, rate: float) -> None:
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                if isinstance(group["lr"], Tensor):  # a compiled step reads it from a tensor
                    group["lr"].fill_(rate * group["share"])
                else:
                    group["lr"] = rate * group["share"]

    def _zero_grad(self) -> None:
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)

    def _clip(self) -> float:
        masters = [master for _, master in self._masters.named]
        limit = self._config.clip_norm or torch.inf
        norm = float(whole(torch.nn.utils.clip_grad_norm_(masters, limit)))
        if not math.isfinite(norm):
            self._zero_grad()
            self._world.fail(
                f"the gradient of update {self.num_updates + 1} is {norm}; the weights are untouched. "
                "Lower optimizer.lr, or look at the rewards of this step"
            )
        return norm


def score_shares(
    model: Any,
    views: Sequence[Views],
    packs: Iterable[Pack],
    columns: Sequence[Callable[[Any], Tensor]],
    world: World,
) -> list[list[Tensor]]:
    """Return `score_views` of every trajectory, of which each rank scores the targets in its packs."""
    found = score_views(model, views, packs, columns)
    sum_over_ranks(model, found, world)
    return found


def sum_over_ranks(model: Any, found: Sequence[Sequence[Tensor]], world: World) -> None:
    """Fill in the tables of targets, in which each rank has written those of its packs."""
    if world.size == 1 or not found[0]:
        return
    # FSDP2 keeps the root's weights gathered until a backward pass, which a reference never has.
    getattr(model, "reshard", lambda: None)()
    # A target is in the packs of one rank and 0 in the tables of the others: the sums are exact.
    for tables in found:
        summed = world.sum(torch.cat([table.flatten() for table in tables]))
        parts = summed.split([table.numel() for table in tables])
        for table, part in zip(tables, parts, strict=True):
            table.copy_(part.view_as(table))


def _gib(count: float) -> str:
    return f"{count / 2**30:.2f} GiB"


def _main_column(scores: Scores | ActorCriticScores | Tensor) -> Tensor:
    return scores if isinstance(scores, Tensor) else scores.logprobs
