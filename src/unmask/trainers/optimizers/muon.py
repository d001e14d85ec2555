"""`optimizer.kind = "muon"`: torch's Muon for the matrices of the layers, AdamW for all else.

An update is the momentum of the gradient made orthogonal by Newton-Schulz iterations, `0.2 sqrt(max(m, n))`
times (arXiv 2502.16982), which has the root mean square of AdamW's: one learning rate serves both. Embedding
and head, whose rows are tokens, norms, biases and the stacked experts `(E, m, n)`, which torch's Muon does
not take, are AdamW's.

On several ranks the iterations need the whole matrix: its momentum is gathered in bf16, the format in which they
run, one matrix after the other; each rank iterates and updates the rows that it holds. On DTensors torch's own
steps would sum products in bf16 over ranks, which rounds otherwise than one process.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim._muon import (
    _adjust_lr,  # pyright: ignore[reportPrivateUsage]
    _zeropower_via_newtonschulz,  # pyright: ignore[reportPrivateUsage]
)

from unmask.configs.optimizer import MuonConfig
from unmask.distributed.sharding import is_sharded, local, whole
from unmask.trainers.optimizers import Part, adamw, parameter_groups


def build(
    named: Sequence[tuple[str, Tensor]], config: MuonConfig, rates: Mapping[str, float]
) -> list[Part]:
    """Return Muon over the matrices of the layers, if there are any, and AdamW over the others."""
    hidden = [(name, weight) for name, weight in named if is_hidden_matrix(name, weight)]
    others = [pair for pair in named if not is_hidden_matrix(*pair)]
    parts = adamw.build(others, config, rates) if others else []
    if hidden:
        kind = ShardedMuon if any(is_sharded(weight) for _, weight in hidden) else torch.optim.Muon
        muon = kind(
            parameter_groups(hidden, config, rates),
            lr=config.lr,
            momentum=config.momentum,
            ns_steps=config.iterations,
            adjust_lr_fn="match_rms_adamw",
        )
        parts.append(Part(muon, lambda _: ("momentum_buffer",)))
    return parts


class ShardedMuon(torch.optim.Muon):
    """torch's Muon of matrices whose rows are sharded; the numbers are those of one process."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Take a step: a collective."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group)

    def _update(self, weight: Any, gradient: Tensor, group: Mapping[str, Any]) -> None:
        # Imported here: one process does not need it.
        from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

        state, momentum = self.state[weight], group["momentum"]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        buffer = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        matrix = whole(gradient.lerp(buffer, momentum).bfloat16())
        found = _zeropower_via_newtonschulz(
            matrix, group["ns_coefficients"], group["ns_steps"], group["eps"]
        )
        (height, _), (start, _) = compute_local_shape_and_global_offset(
            weight.shape, weight.device_mesh, weight.placements
        )
        rate = _adjust_lr(group["lr"], group["adjust_lr_fn"], weight.shape)
        rows = local(weight).mul_(1 - group["lr"] * group["weight_decay"])
        rows.add_(found[start : start + height], alpha=-rate)  # the rows of this rank


def is_hidden_matrix(name: str, weight: Tensor) -> bool:
    """Return whether a parameter is a matrix of a layer; adapters of one are."""
    return ".layers." in name and weight.dim() == 2
