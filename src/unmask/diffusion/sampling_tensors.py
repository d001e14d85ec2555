"""The sampling parameters of many requests as tensors, one row each.

What decides which code runs at all (does anybody filter? which strategies are there?) stays on the
host, so that a batch pays for nothing that none of its requests asks for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.types import EntropySum, SamplingParams, Schedule, Strategy

STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
ENTROPY_SUMS: tuple[EntropySum, ...] = get_args(EntropySum)


@dataclass(frozen=True, slots=True)
class Needs:
    """What at least one of the requests asks for.

    Attributes:
        strategies: the strategies in use.
        draws: whether tokens are drawn.
        is_greedy: whether the likeliest tokens are taken.
        tempers: whether tokens are drawn from anything but the model's own distribution.
        filters: whether top-k, top-p or min-p leaves tokens out.
        ranks_filtered: whether slots are ranked by the filtered proposal.
        revises: whether written tokens may be written or masked again.
    """

    strategies: frozenset[Strategy]
    draws: bool
    is_greedy: bool
    tempers: bool
    filters: bool
    ranks_filtered: bool
    revises: bool

    @classmethod
    def of(cls, requests: Sequence[SamplingParams]) -> Self:
        """Return what these requests need."""
        return cls(
            strategies=frozenset(r.strategy for r in requests),
            draws=any(r.temperature > 0 for r in requests),
            is_greedy=any(r.temperature == 0 for r in requests),
            tempers=any(r.temperature not in (0, 1) or r.is_filtered for r in requests),
            filters=any(r.is_filtered for r in requests),
            ranks_filtered=any(r.confidence == "filtered" for r in requests),
            revises=any(r.revises for r in requests),
        )


@dataclass(frozen=True, slots=True)
class Rules:
    """The sampling parameters of `B` requests as tensors `(B,)`; see `SamplingParams` for their meaning.

    Limits that a request does not set stand at a value that never bites.
    """

    seed: Tensor
    strategy: Tensor
    steps: Tensor
    schedule: Tensor
    block: Tensor
    sub_block: Tensor
    threshold: Tensor
    factor: Tensor
    entropy_bound: Tensor
    sums_inclusively: Tensor
    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    ranks_by_filtered: Tensor
    revises: Tensor
    edit_threshold: Tensor
    max_edit_steps: Tensor
    remask_threshold: Tensor
    needs: Needs

    @classmethod
    def of(cls, requests: Sequence[SamplingParams], device: torch.device) -> Self:
        """Lay out the parameters of several requests; their `block_size` must be filled in."""

        def column(values: Sequence[float | None], dtype: torch.dtype = torch.float64) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)

        def integers(values: Sequence[int]) -> Tensor:
            return column(values, torch.int64)

        blocks = [r.block_size or 0 for r in requests]
        assert all(blocks)
        return cls(
            seed=integers([r.seed for r in requests]),
            strategy=integers([STRATEGIES.index(r.strategy) for r in requests]),
            steps=integers([r.denoising_steps or b for r, b in zip(requests, blocks, strict=True)]),
            schedule=integers([SCHEDULES.index(r.schedule) for r in requests]),
            block=integers(blocks),
            sub_block=integers(
                [r.sub_block_size or b for r, b in zip(requests, blocks, strict=True)]
            ),
            threshold=column([r.threshold for r in requests]),
            factor=column([r.factor for r in requests]),
            entropy_bound=column([r.entropy_bound for r in requests]),
            sums_inclusively=column([r.entropy_sum == "inclusive" for r in requests], torch.bool),
            temperature=column([r.temperature for r in requests]),
            top_k=integers([r.top_k for r in requests]),
            top_p=column([r.top_p for r in requests]),
            min_p=column([r.min_p for r in requests]),
            ranks_by_filtered=column([r.confidence == "filtered" for r in requests], torch.bool),
            revises=column([r.revises for r in requests], torch.bool),
            edit_threshold=column(
                [torch.inf if r.edit_threshold is None else r.edit_threshold for r in requests]
            ),
            max_edit_steps=integers(
                [0 if r.edit_threshold is None else r.max_edit_steps for r in requests]
            ),
            remask_threshold=column([r.remask_threshold or 0.0 for r in requests]),
            needs=Needs.of(requests),
        )

    def take(self, index: Tensor) -> "Rules":
        """Return the rules of the requests `index`, in that order, with repeats."""
        columns = {name: getattr(self, name).index_select(0, index) for name in COLUMNS}
        return Rules(**columns, needs=self.needs)

    def put(self, index: Tensor, other: "Rules") -> None:
        """Put the rules of `other` into the rows `index`, in place; what they need stays to be said."""
        for name in COLUMNS:
            getattr(self, name).index_copy_(0, index, getattr(other, name))

    def grown(self, count: int) -> "Rules":
        """Return a copy of the rules with room for `count` requests."""
        more = (0, count - len(self.seed))
        columns = {name: F.pad(getattr(self, name), more, value=1).clone() for name in COLUMNS}
        return Rules(**columns, needs=self.needs)


COLUMNS = tuple(field.name for field in fields(Rules) if field.name != "needs")
