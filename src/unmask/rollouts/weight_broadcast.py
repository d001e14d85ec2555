"""Weights from the learner to rollout workers: a process group of torch, and one broadcast per tensor.

The learner is rank 0. Tensors travel in the order of their names, as bytes, so the copies are equal to the
bit in every number format, and a worker holds one tensor more than its weights. Frozen weights, such as those
under adapters or an image tower's, are not sent: they never change.

The group is built on a store of its own instead of torch's default group, which is that of the trainer's
ranks and cannot lose a member: after a worker has died, a new group is made of the others and its successor.
"""

import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from unmask.models.transformer import Model

# Its stubs leave out what these classes can do, so they have no types here.
dist: Any = import_module("torch.distributed")
# `ProcessGroupGloo` or `ProcessGroupNCCL`.
Group = Any

LEARNER = 0
# Name, shape and number format of each tensor, in the order in which they are sent.
Layout = tuple[tuple[str, tuple[int, ...], torch.dtype], ...]


@dataclass(frozen=True, slots=True)
class Weights:
    """A model's trained weights at one moment.

    Attributes:
        version: the `policy_version` of what they write.
        tensors: by name, in the order of names.
    """

    version: int
    tensors: dict[str, Tensor]

    @property
    def layout(self) -> Layout:
        """What a worker must have room for."""
        return tuple((n, tuple(t.shape), t.dtype) for n, t in self.tensors.items())

    @property
    def num_bytes(self) -> int:
        """Bytes that each worker receives."""
        return sum(t.numel() * t.element_size() for t in self.tensors.values())


def trained_weights(model: Model, version: int, copies: bool) -> Weights:
    """Return the weights that training changes: those with gradients, such as adapters.

    Args:
        model: under training.
        version: of its weights.
        copies: copy them to host memory, so that the next update does not change them.
    """
    found = {
        name: parameter.detach()
        for name, parameter in sorted(model.named_parameters())
        if parameter.requires_grad
    }
    if copies:
        found = {name: tensor.to("cpu", copy=True) for name, tensor in found.items()}
    return Weights(version, found)


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where the members of a process group meet.

    Attributes:
        host: address of the learner.
        port: of its store.
        name: of the group; each is used once.
        size: number of members, the learner among them.
        device: kind of device that holds the tensors: `cpu` takes gloo, `cuda` NCCL.
        timeout_s: most seconds that a member waits for another one.
    """

    host: str
    port: int
    name: str
    size: int
    device: str
    timeout_s: float


def open_store(host: str) -> tuple[Any, int]:
    """Start the learner's store on one address of this machine, and return it with its port."""
    listener = socket.create_server((host, 0))
    port = listener.getsockname()[1]
    store = dist.TCPStore(
        host, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()
    )
    return store, port


def join(meeting: Meeting, rank: int) -> Group:
    """Return the process group of a meeting, once all members are there.

    Args:
        meeting: of the group.
        rank: of this process.

    Raises:
        RuntimeError: a member did not come in time, or died.
    """
    limit = timedelta(seconds=meeting.timeout_s)
    with socket.create_connection((meeting.host, meeting.port), meeting.timeout_s) as connection:
        own_address: str = connection.getsockname()[0]  # of the interface that reaches the learner
    store = dist.PrefixStore(
        meeting.name, dist.TCPStore(meeting.host, meeting.port, is_master=False, timeout=limit)
    )
    if meeting.device == "cuda":
        options = dist.ProcessGroupNCCL.Options()
        options._timeout = limit
        return dist.ProcessGroupNCCL(store, rank, meeting.size, options)
    options = dist.ProcessGroupGloo._Options()
    options._devices = [dist.ProcessGroupGloo.create_device(hostname=own_address)]
    options._timeout = limit
    return dist.ProcessGroupGloo(store, rank, meeting.size, options)


def send(group: Group, weights: Weights, device: torch.device) -> None:
    """Send weights to all members of the learner's group.

    Args:
        group: from `join`.
        weights: on `device`, or copies in host memory.
        device: of the group's tensors.

    Raises:
        RuntimeError: a member died.
    """
    for tensor in weights.tensors.values():
        group.broadcast(_bytes(tensor.to(device).contiguous()), LEARNER).wait()


def receive(group: Group, layout: Layout, device: torch.device) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors that the learner sends, by name.

    Raises:
        RuntimeError: the learner or another member died.
    """
    for name, shape, dtype in layout:
        tensor = torch.empty(shape, dtype=dtype, device=device)
        group.broadcast(_bytes(tensor), LEARNER).wait()
        yield name, tensor


def check_layout(own: Iterable[tuple[str, Tensor]], layout: Layout) -> None:
    """Refuse weights that are not those of a worker's model.

    Raises:
        ValueError: naming the first tensor that differs.
    """
    expected = {name: (tuple(t.shape), t.dtype) for name, t in own}
    sent = {name: (shape, dtype) for name, shape, dtype in layout}
    for name in sorted(expected.keys() | sent.keys()):
        if expected.get(name) != sent.get(name):
            raise ValueError(
                f"the learner sends {name} as {sent.get(name, 'nothing')}, a rollout worker's model has "
                f"{expected.get(name, 'nothing')}: model.path must name the same files on every machine"
            )


def _bytes(tensor: Tensor) -> Tensor:
    """Return the memory of a contiguous tensor as bytes, whatever its number format."""
    return tensor.view(-1).view(torch.uint8)
