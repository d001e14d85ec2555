"""`optimizer.kind = "muon"`: torch's Muon for the matrices of the layers, AdamW for all else.

An update is the momentum of the gradient made orthogonal by Newton-Schulz iterations, `0.2 sqrt(max(m, n))`
times (arXiv 2502.16982), which has the root mean square of AdamW's: one learning rate serves both. Embedding
and head, whose rows are tokens, norms, biases and the stacked experts `(E, m, n)`, which torch's Muon does
not take, are AdamW's.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from unmask.configs.optimizer import MuonConfig
from unmask.trainers.optimizers import Part, adamw, parameter_groups


def build(
    named: Sequence[tuple[str, Tensor]], config: MuonConfig, rates: Mapping[str, float]
) -> list[Part]:
    """Return Muon over the matrices of the layers, if there are any, and AdamW over the others."""
    hidden = [(name, weight) for name, weight in named if is_hidden_matrix(name, weight)]
    others = [pair for pair in named if not is_hidden_matrix(*pair)]
    parts = adamw.build(others, config, rates) if others else []
    if hidden:
        muon = torch.optim.Muon(
            parameter_groups(hidden, config, rates),
            lr=config.lr,
            momentum=config.momentum,
            ns_steps=config.iterations,
            adjust_lr_fn="match_rms_adamw",
        )
        parts.append(Part(muon, lambda _: ("momentum_buffer",)))
    return parts


def is_hidden_matrix(name: str, weight: Tensor) -> bool:
    """Return whether a parameter is a matrix of a layer; adapters of one are."""
    return ".layers." in name and weight.dim() == 2
