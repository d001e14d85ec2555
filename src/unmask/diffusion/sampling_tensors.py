"""The sampling parameters of many requests as tensors, one row each.

`Needs`, which decides which code runs at all, stays on the host, so that a batch does not pay for filters or
strategies that none of its requests uses.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.sampling_params import EntropySum, SamplingParams, Schedule, Strategy

STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
ENTROPY_SUMS: tuple[EntropySum, ...] = get_args(EntropySum)


def on_device(
    numbers: Sequence[Any], device: torch.device, dtype: torch.dtype = torch.int64
) -> Tensor:
    """Return numbers of the host as a tensor on a device, without waiting for its earlier work.

    On CUDA a copy from pageable memory first waits for everything that is queued; one from pinned memory is
    queued behind it.
    """
    tensor = torch.tensor(numbers, dtype=dtype)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True, slots=True)
class Needs:
    """The features that at least one of the requests uses.

    Attributes:
        strategies: the strategies in use.
        draws: whether tokens are drawn.
        is_greedy: whether the likeliest tokens are taken.
        tempers: whether the proposal differs from the model's own distribution.
        filters: whether top-k, top-p or min-p excludes tokens.
        ranks_filtered: whether positions are ranked by the filtered proposal.
        revises: whether written tokens may be written or masked again.
        writes_images: whether image codes are drawn.
        guides: whether logits are guided away from those without the prompt.
        bars_stops: whether stop tokens are barred from the first positions.
    """

    strategies: frozenset[Strategy]
    draws: bool
    is_greedy: bool
    tempers: bool
    filters: bool
    ranks_filtered: bool
    revises: bool
    writes_images: bool
    guides: bool
    bars_stops: bool

    @classmethod
    def of(cls, requests: Sequence[SamplingParams]) -> Self:
        """Return the features that these requests use."""
        return cls(
            strategies=frozenset(r.strategy for r in requests),
            draws=any(r.temperature > 0 for r in requests),
            is_greedy=any(r.temperature == 0 for r in requests),
            tempers=any(r.temperature not in (0, 1) or r.is_filtered for r in requests),
            filters=any(r.is_filtered for r in requests),
            ranks_filtered=any(r.confidence == "filtered" for r in requests),
            revises=any(r.revises for r in requests),
            writes_images=any(r.writes == "image" for r in requests),
            guides=any(r.guidance > 0 for r in requests),
            bars_stops=any(r.min_tokens > 0 for r in requests),
        )


@dataclass(frozen=True, slots=True)
class SamplingTensors:
    """The sampling parameters of `B` requests as tensors `(B,)`; see `SamplingParams` for their meaning.

    Limits that a request does not set have a value without effect.
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
    ranking_noise: Tensor
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
    guidance: Tensor
    writes_image: Tensor
    min_tokens: Tensor
    needs: Needs

    @classmethod
    def of(cls, requests: Sequence[SamplingParams], device: torch.device) -> Self:
        """Return the parameters of several requests; their `block_size` must be filled in."""

        def column(values: Sequence[float | None], dtype: torch.dtype = torch.float64) -> Tensor:
            return on_device(values, device, dtype)

        def integers(values: Sequence[int]) -> Tensor:
            return column(values, torch.int64)

        blocks = [r.block_size or 0 for r in requests]
        assert all(blocks)
        return cls(
            seed=integers([r.seed for r in requests]),
            strategy=integers([STRATEGIES.index(r.strategy) for r in requests]),
            steps=integers([r.denoising_steps or r.block_size or 0 for r in requests]),
            schedule=integers([SCHEDULES.index(r.schedule) for r in requests]),
            block=integers(blocks),
            sub_block=integers([r.sub_block_size or r.block_size or 0 for r in requests]),
            threshold=column([r.threshold for r in requests]),
            factor=column([r.factor for r in requests]),
            entropy_bound=column([r.entropy_bound for r in requests]),
            ranking_noise=column([r.ranking_noise for r in requests]),
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
            guidance=column([r.guidance for r in requests]),
            writes_image=column([r.writes == "image" for r in requests], torch.bool),
            min_tokens=integers([r.min_tokens for r in requests]),
            needs=Needs.of(requests),
        )

    def take(self, index: Tensor) -> "SamplingTensors":
        """Return the rows `index`, in that order; repeats are allowed."""
        columns = {name: getattr(self, name).index_select(0, index) for name in COLUMNS}
        return SamplingTensors(**columns, needs=self.needs)

    def put(self, index: Tensor, other: "SamplingTensors") -> None:
        """Write the rows of `other` to the rows `index`, in place; `needs` is left as it is."""
        for name in COLUMNS:
            getattr(self, name).index_copy_(0, index, getattr(other, name))

    def grown(self, count: int) -> "SamplingTensors":
        """Return a copy with `count` rows."""
        more = (0, count - len(self.seed))
        columns = {name: F.pad(getattr(self, name), more, value=1).clone() for name in COLUMNS}
        return SamplingTensors(**columns, needs=self.needs)


COLUMNS = tuple(field.name for field in fields(SamplingTensors) if field.name != "needs")
