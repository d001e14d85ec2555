"""The reference: a frozen policy that the KL penalty is measured from."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from operator import attrgetter

import torch
from torch import Tensor

from unmask.checkpoints.checkpoint import load_model
from unmask.configs.dpo import DPOConfig
from unmask.configs.rl import RLConfig
from unmask.diffusion.layout import Pack, pack_views
from unmask.diffusion.target_table import TargetTable
from unmask.diffusion.views import Views
from unmask.distributed.sharding import sharded
from unmask.distributed.world import ALONE, World
from unmask.engine.scoring import score_pack
from unmask.models.conventions import conventions_of
from unmask.models.families import imported_name
from unmask.models.lora import adapters_off
from unmask.models.transformer import Model
from unmask.trainers.learner import score_shares, sum_over_ranks
from unmask.trainers.pack_budget import build_budget, lengths_of

# What policy and reference must agree on for a token and a view to mean the same to both.
SHARED = ("vocab_size", "mask_id", "num_drawable", "attention", "is_shifted")


class Scorer:
    """A frozen model that scores the targets of views."""

    def __init__(
        self,
        model: Model,
        token_budget: int | None,
        without_adapters: bool = False,
        world: World = ALONE,
    ) -> None:
        """Freeze a model; on several ranks shard it, unless it is the policy with its adapters off.

        Args:
            model: is never trained from now on.
            token_budget: most tokens of a pack; those of a pack of its own training when not given.
            without_adapters: score with the model's adapters off; only they are trained elsewhere, so
                the rest is frozen already.
            world: the ranks, each of which scores a share.

        Raises:
            ValueError: if the model's mask id is unknown.
        """
        self.model = model if without_adapters else sharded(model.requires_grad_(False), world)
        self._world = world
        self._frozen = adapters_off if without_adapters else nullcontext[Model]
        self._budget = build_budget(self.model, token_budget)
        self._conventions = conventions_of(model)

    def score(self, views: Sequence[Views]) -> list[Tensor]:
        """Return the log-probabilities `(N, C)` of every trajectory's targets."""
        columns = [attrgetter("logprobs")]
        with self._frozen(self.model):
            (logprobs,) = score_shares(self.model, views, self._packs(views), columns, self._world)
            return logprobs

    @torch.no_grad()
    def most_likely(self, views: Sequence[Views], count: int) -> tuple[list[Tensor], list[Tensor]]:
        """Return the most probable tokens of every trajectory's targets and their log-probabilities.

        Args:
            views: of the trajectories.
            count: most tokens of a target; fewer where fewer may be drawn.

        Returns:
            Ids and log-probabilities, `(N, C, M)` of each trajectory.
        """
        width = min(count, int(self.model.head.drawable.sum()))
        shapes = [(*v.target.shape, width) for v in views]
        ids = TargetTable([torch.zeros(shape, dtype=torch.int64) for shape in shapes])
        logprobs = TargetTable([torch.zeros(shape, dtype=torch.float64) for shape in shapes])
        with self._frozen(self.model):
            for pack in self._packs(views):
                top = score_pack(self.model, pack, width)
                ids.write(pack.origin, top.ids)
                logprobs.write(pack.origin, top.logprobs)
        found = [ids.tables(), logprobs.tables()]
        sum_over_ranks(self.model, found, self._world)
        return found[0], found[1]

    def _packs(self, views: Sequence[Views]) -> Iterator[Pack]:
        budget, world = self._budget(lengths_of(views)), self._world
        packs = pack_views(views, self._conventions, budget, world.rank, world.size)
        return (pack.to(self.model.device) for pack in packs)


def build_reference(
    config: RLConfig | DPOConfig, model: Model, world: World = ALONE
) -> Scorer | None:
    """Load the frozen model that the KL penalty is measured from, if `loss.kl_to` names one.

    Args:
        config: of the run. `loss.kl_to = "reference"` is the model the run started from, also when the
            run is resumed; with `[lora]` that is the policy with its adapters off, without a second
            copy of the weights.
        model: the policy, whole; the reference is held on the same device in the same number format.
        world: the ranks.

    Raises:
        ValueError: as `load_model`, or if the two models do not have the same tokens.
    """
    if config.loss.kl_to == "step":
        return None
    is_start = config.loss.kl_to == "reference"
    if config.lora is not None and is_start:
        return Scorer(model, config.optimizer.token_budget, without_adapters=True, world=world)
    path = config.model.path if is_start else config.loss.kl_to
    own = config.model
    family = imported_name(model.spec.family)
    found = load_model(path, model.device, model.dtype, own.mask_id, own.block_size, family)
    for name in SHARED:
        ours, theirs = getattr(model.spec, name), getattr(found.spec, name)
        if ours != theirs:
            raise ValueError(
                f"loss.kl_to = {path}: its {name} is {theirs}, the trained model's is {ours}; "
                "a reference must have the same tokens and the same attention"
            )
    return Scorer(found, config.optimizer.token_budget, world=world)
