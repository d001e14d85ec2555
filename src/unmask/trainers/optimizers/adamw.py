"""`optimizer.kind = "adamw"`: torch's fused AdamW."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from unmask.configs.optimizer import OptimizerSection
from unmask.trainers.optimizers import Part, parameter_groups

MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def build(
    named: Iterable[tuple[str, Tensor]], config: OptimizerSection, rates: Mapping[str, float]
) -> list[Part]:
    """Return AdamW over all parameters."""
    groups = parameter_groups(named, config, rates)
    optimizer = torch.optim.AdamW(
        groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True
    )
    return [Part(optimizer, lambda _: MOMENTS)]
