"""The scorer: a model without optimizer that says how likely it finds the targets of views.

A frozen reference policy is one. What a model says of a trajectory's views is a table `(N, C)`, kept by
origin (trajectory, view, slot) and not by place in a pack, so it survives shuffling, splitting into
minibatches and several epochs.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from unmask.checkpoints.checkpoint import load_model
from unmask.configs.rl import RLConfig
from unmask.diffusion.layout import Pack, pack_views
from unmask.diffusion.views import Views
from unmask.engine.engine import conventions_of
from unmask.models.families import imported_name
from unmask.models.heads import Scores, Targets
from unmask.models.lora import adapters_off
from unmask.models.tiled_attention import plan_documents
from unmask.models.transformer import Model

# What policy and reference must agree on for a token and a view to mean the same to both.
SHARED = ("vocab_size", "mask_id", "num_drawable", "attention", "is_shifted")


class RowTable:
    """Numbers of several trajectories, `(N, C)` each, written and read by the origin of scored rows."""

    def __init__(self, tables: Sequence[Tensor], device: torch.device | None = None) -> None:
        """Start from these numbers, trajectory by trajectory.

        Args:
            tables: `(N, C)` each.
            device: where they are read; their own when not given.
        """
        self._shapes = [table.shape for table in tables]
        sizes = [shape.numel() for shape in self._shapes]
        self._flat = torch.cat([t.flatten() for t in tables]) if tables else torch.zeros(0)
        self._flat = self._flat.to(device or self._flat.device)
        at = self._flat.device
        self._starts = torch.tensor([0, *sizes], device=at).cumsum(0)
        self._num_slots = torch.tensor([shape[1] for shape in self._shapes], device=at)

    def read(self, origin: Tensor) -> Tensor:
        """Return the numbers `(S,)` at `origin (3, S)`: trajectory, view and slot of each."""
        return self._flat[self._place(origin)]

    def write(self, origin: Tensor, values: Tensor) -> None:
        """Put `values (S,)` at `origin (3, S)`."""
        self._flat[self._place(origin)] = values.to(self._flat)

    def tables(self) -> list[Tensor]:
        """Return the numbers as they stand, `(N, C)` per trajectory."""
        parts = self._flat.split([shape.numel() for shape in self._shapes])
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def _place(self, origin: Tensor) -> Tensor:
        trajectory, view, slot = origin.to(self._flat.device)
        return self._starts[trajectory] + view * self._num_slots[trajectory] + slot


def tables_of(
    known: Sequence[Mapping[str, Tensor]], device: torch.device | None = None
) -> dict[str, RowTable]:
    """Return a table for each name of what is known of some trajectories, `(N, C)` each.

    Args:
        known: of each trajectory, all under the same names.
        device: where they are read.
    """
    names = known[0].keys() if known else ()
    return {name: RowTable([row[name] for row in known], device) for name in names}


def score_views(
    views: Sequence[Views],
    packs: Iterable[Pack],
    score: Callable[[Pack], Any],
    columns: Sequence[Callable[[Any], Tensor]],
) -> list[list[Tensor]]:
    """Return numbers for every target of every trajectory, `(N, C)` each and 0 elsewhere.

    Args:
        views: what is scored.
        packs: all of it, laid out.
        score: a pack to what a model says of its scored rows.
        columns: that to one number `(S,)` each.

    Returns:
        For each column its tables, trajectory by trajectory.
    """
    zeros = [torch.zeros(v.target.shape, dtype=torch.float64) for v in views]
    tables = [RowTable(zeros) for _ in columns]
    for pack in packs:
        scores = score(pack)
        for table, column in zip(tables, columns, strict=True):
            table.write(pack.origin, column(scores))
    return [table.tables() for table in tables]


class Scorer:
    """A frozen model."""

    def __init__(self, model: Model, token_budget: int, without_adapters: bool = False) -> None:
        """Freeze a model.

        Args:
            model: is never trained from now on.
            token_budget: most tokens of a pack.
            without_adapters: score with the model's adapters off; only they are trained elsewhere, so
                what is left is frozen already.

        Raises:
            ValueError: if the model's mask id is unknown.
        """
        self.model = model if without_adapters else model.requires_grad_(False)
        self._frozen = adapters_off if without_adapters else nullcontext[Model]
        self._token_budget = token_budget
        self._conventions = conventions_of(model)

    @torch.no_grad()
    def score(self, views: Sequence[Views]) -> list[Tensor]:
        """Return the log-probabilities `(N, C)` of every trajectory's targets."""
        packs = pack_views(views, self._conventions, self._token_budget)
        with self._frozen(self.model):
            (logprobs,) = score_views(views, packs, self._score, [attrgetter("logprobs")])
            return logprobs

    def _score(self, pack: Pack) -> Scores:
        pack = pack.to(self.model.device)
        targets = Targets(pack.targets, pack.temperatures)
        plan = plan_documents(pack.structure)
        return self.model.score(pack.tokens, pack.positions, plan, pack.rows, targets)


def build_reference(config: RLConfig, model: Model) -> Scorer | None:
    """Load the frozen model that the KL penalty is measured from, if one is asked for.

    Args:
        config: `objective.kl_to` and `reference.path`. Without a path it is the model the run started
            from, also when the run is resumed; beside `[lora]` that is the policy with its adapters
            off, and no second copy of the weights.
        model: the policy; the reference is held on the same device in the same number format.

    Raises:
        ValueError: as `load_model`, or if the two models do not speak of the same tokens.
    """
    if config.objective.kl_to != "reference":
        return None
    if config.lora is not None and config.reference.path is None:
        return Scorer(model, config.optimizer.token_budget, without_adapters=True)
    path = config.reference.path or config.model.path
    mask_id, block_size = config.model.mask_id, config.model.block_size
    found = load_model(
        path, model.device, model.dtype, mask_id, block_size, imported_name(model.spec.family)
    )
    for name in SHARED:
        ours, theirs = getattr(model.spec, name), getattr(found.spec, name)
        if ours != theirs:
            raise ValueError(
                f"reference.path = {path}: its {name} is {theirs}, the trained model's is {ours}; "
                "a reference must have the same tokens and the same attention"
            )
    return Scorer(found, config.optimizer.token_budget)
