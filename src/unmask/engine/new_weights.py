"""New weights for a model that is sampled from: parameters copied in place, by name."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

import torch
from torch import Tensor

from unmask.models.transformer import Model


@torch.no_grad()
def copy_weights(model: Model, named_tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Copy tensors into a model's parameters.

    Args:
        model: changed in place.
        named_tensors: by our names; any part of the parameters.

    Raises:
        ValueError: a name or shape is not the model's; the tensors before it are copied.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, tensor in named_tensors:
        _fitting(parameters, name, tensor).copy_(tensor)


def _fitting(parameters: Mapping[str, Tensor], name: str, tensor: Tensor) -> Tensor:
    if name not in parameters:
        near = ", ".join(get_close_matches(name, parameters)) or "nothing"
        raise ValueError(f"update_weights: the model has no parameter {name!r}; near it: {near}")
    parameter = parameters[name]
    if parameter.shape != tensor.shape:
        raise ValueError(
            f"update_weights: {name} has shape {tuple(tensor.shape)}, the model's has "
            f"{tuple(parameter.shape)}"
        )
    return parameter
