"""Optimizers: one file per `optimizer.kind`, named as it is.

A file defines `build(groups, config) -> list[Part]`. The moments of all parts are what a checkpoint keeps,
by name of the parameter.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from unmask.configs.optimizer import OptimizerSection


def as_it_is(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return a parameter's state as tensors by name: it consists of plain tensors."""
    return dict(state)


def place_on(parameter: Tensor, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return a parameter's state from its tensors, on the parameter's device."""
    # Fused AdamW needs its step count on the device of the weights as well.
    return {kind: value.to(parameter.device) for kind, value in tensors.items()}


@dataclass(frozen=True, slots=True)
class Part:
    """An optimizer of some of the parameters.

    Attributes:
        optimizer: of torch or like it; each group has its `share` of the learning rate.
        kinds_of: a parameter to the names of the tensors of its state.
        tensors_of: the state of a parameter to its tensors by name.
        state_of: a parameter and those tensors to its state.
    """

    optimizer: torch.optim.Optimizer
    kinds_of: Callable[[Tensor], Collection[str]]
    tensors_of: Callable[[Mapping[str, Any]], dict[str, Tensor]] = as_it_is
    state_of: Callable[[Tensor, Mapping[str, Tensor]], dict[str, Any]] = place_on

    def bytes_of(self, parameter: Tensor) -> float:
        """Return the bytes of a parameter's state, to which a step count adds four."""
        kinds = self.kinds_of(parameter)
        codes = sum(kind.endswith(".codes") for kind in kinds)
        plain = len(kinds) - 2 * codes - ("step" in kinds)  # each code has a scale per 256 numbers
        return parameter.numel() * (parameter.element_size() * plain + codes * (1 + 4 / 256))

    @property
    def parameters(self) -> Iterable[Tensor]:
        """The parameters, group by group."""
        return (parameter for group in self.optimizer.param_groups for parameter in group["params"])


def build_optimizer(
    named: Sequence[tuple[str, Tensor]], config: OptimizerSection, rates: Mapping[str, float]
) -> list[Part]:
    """Return the parts of the optimizer that `config.kind` selects.

    Args:
        named: parameters that are trained, by name.
        config: of the optimizer.
        rates: parameters that have a learning rate of their own.

    Raises:
        ValueError: if a library is missing.
    """
    kind: str = getattr(config, "kind")  # noqa: B009  # every section of the union has it
    return import_module(f"{__name__}.{kind}").build(named, config, rates)


def parameter_groups(
    named: Iterable[tuple[str, Tensor]], config: OptimizerSection, rates: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Return the groups of an optimizer: parameters of one weight decay and one share of the learning rate."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, weight in named:
        decay = config.weight_decay if weight.dim() >= 2 else 0.0
        share = rates[name] / config.lr if name in rates else 1.0
        groups.setdefault((decay, share), []).append(weight)
    return [
        {"params": weights, "weight_decay": decay, "share": share}
        for (decay, share), weights in groups.items()
    ]
