"""Weights sharded over ranks (FSDP2): a twin of a model, of which every rank holds a part.

Each layer is a group that is gathered for its pass and freed after it; the root holds all else, a tied head in
the group of the embedding. Gradients are reduced in fp32 and summed over ranks, not averaged: the loss is
divided by one denominator of the whole batch already.
"""

import copy
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from unmask.distributed.world import World
from unmask.models.heads import NARROW
from unmask.models.transformer import Model
from unmask.models.value_model import ActorCritic, ValueModel

M = TypeVar("M", bound=Model | ValueModel | ActorCritic)


def sharded(model: M, world: World) -> M:
    """Return a twin of a model whose weights are sharded; the model itself in a world of one process.

    Args:
        model: whole, and the same on every rank. It is not changed, and its memory may be freed.
        world: the ranks. With one rank per copy of the weights, every rank holds all of them.
    """
    if world.mesh is None:
        return model
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    # Parameters of the twin share the model's memory until they are sharded, which copies a part of them.
    memory: dict[int, Any] = {
        id(p): nn.Parameter(p.detach(), p.requires_grad) for p in model.parameters()
    }
    memory |= {id(buffer): buffer for buffer in model.buffers()}
    twin = copy.deepcopy(model, memory)
    shard_only = world.mesh["shard"] if world.mesh["replicate"].size() == 1 else world.mesh
    options: dict[str, Any] = {"mesh": shard_only}
    if twin.dtype in NARROW:
        options["mp_policy"] = MixedPrecisionPolicy(reduce_dtype=torch.float32)
    for layer in twin.backbone.layers:
        fully_shard(layer, **options)
    vision: Any = twin.backbone.vision
    if vision is not None and not vision.is_tower_trained:  # it then runs outside `forward`
        options["ignored_params"] = set(vision.tower.parameters())
    fully_shard(twin, **options)
    for module in twin.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(
                True
            )  # else gloo, which has no other, is refused
    return twin


def is_sharded(tensor: Tensor) -> bool:
    """Return whether a rank may hold a part of a tensor alone."""
    return hasattr(tensor, "full_tensor")


def local(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this rank holds."""
    part = getattr(tensor, "to_local", None)
    return tensor if part is None else part()


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor of which this rank may hold a part, gathered from all ranks: a collective."""
    gather = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


def hollow(model: M) -> M:
    """Return a copy of a model without memory for its parameters; buffers are shared."""
    memory: dict[int, Any] = {
        id(p): nn.Parameter(p.detach().to("meta"), p.requires_grad) for p in model.parameters()
    }
    return copy.deepcopy(model, memory | {id(buffer): buffer for buffer in model.buffers()})


def whole_model(model: M, shell: M, world: World, is_trained_only: bool = False) -> M:
    """Return a copy of a sharded model with whole weights, in the host memory of rank 0: a collective.

    One weight at a time is whole on a device. Other ranks return a model without weights, and so do all for the
    policy of an actor-critic, of which every engine has a whole copy.

    Args:
        model: made by `sharded`; in a world of one process it is returned itself.
        shell: `hollow` of the model that was sharded.
        world: the ranks.
        is_trained_only: leave frozen parameters without memory.
    """
    if world.mesh is None:
        return model
    memory: dict[int, Any] = {id(buffer): buffer for buffer in shell.buffers()}
    own = dict(shell.named_parameters())
    for name, parameter in model.named_parameters():
        memory[id(own[name])] = own[name]
        of_policy = isinstance(model, ActorCritic) and name.startswith("policy.")
        if of_policy or (is_trained_only and not parameter.requires_grad):
            continue
        weight = whole(parameter.detach())
        if world.is_main:
            memory[id(own[name])] = nn.Parameter(weight.cpu(), parameter.requires_grad)
    found = copy.deepcopy(shell, memory)
    if isinstance(found, ValueModel) and isinstance(model, ValueModel):
        found.source = model.source
    return found


def whole_weights(model: Model | ActorCritic, world: World) -> Iterator[tuple[str, Tensor]]:
    """Yield name and whole weight of each trained parameter of a policy, one at a time: collectives.

    Args:
        model: made by `sharded`; the names are those of the policy.
        world: the ranks; nothing is yielded for one process, where the engine samples from the model itself.
    """
    policy = model.policy if isinstance(model, ActorCritic) else model
    for name, parameter in policy.named_parameters() if world.size > 1 else ():
        if parameter.requires_grad:
            yield name, whole(parameter.detach())
