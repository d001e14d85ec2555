"""A stand-in for a GPU on a CPU: tensors that count as its own, and a record of what the host waits for.

On CUDA the host waits wherever it reads a value of the device (`item`, `tolist`, a branch), asks for a shape
that depends on values (`nonzero`, a boolean index), or sends numbers from pageable memory (`torch.tensor` with a
device, a list as an index). Here tensors of the device are `OnDevice`, which all operations pass on, and `Waits`
records each such operation.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from unmask.engine import canvas_stream, pages, sequence_state
from unmask.engine import engine as engine_module
from unmask.engine.canvas_stream import Snapshot
from unmask.engine.engine import Engine
from unmask.engine.host_state import HostState, Report

READS = {
    *("item", "tolist", "cpu", "numpy", "__int__", "__bool__", "__float__", "__index__"),
    *("nonzero", "masked_select", "bincount", "unique", "equal", "allclose", "repeat_interleave"),
}
MAKES = {"arange", "zeros", "ones", "full", "empty", "eye"}


# What makes the host ask the device for a number, or a shape.
WAITS = (
    "aten.item",
    "_local_scalar_dense",
    "nonzero.default",
    "masked_select",
    "bincount",
    "_unique2",
    "unique_dim",
)


class NoWaiting(TorchDispatchMode):
    """Notes the operations that wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(name in str(func) for name in WAITS):
            self.found.add(str(func))
        return func(*args, **(kwargs or {}))


class OnDevice(Tensor):
    """A tensor that counts as one of the device."""


class Waits(TorchFunctionMode):
    """Records the operations for which the host would wait."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        super().__init__()
        self.found: list[str] = []
        self._weights = {parameter.untyped_storage().data_ptr() for parameter in parameters}

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", str(func))
        tensors = [x for x in _leaves((args, kwargs)) if isinstance(x, Tensor)]
        is_here = any(isinstance(x, OnDevice) for x in tensors)
        if is_here and name in READS:
            self.found.append(name)
        if is_here and name in ("__getitem__", "__setitem__") and _waits_for_index(args[1]):
            self.found.append(f"{name} by a list or a mask")
        if is_here and any(self._is_of_host(x) for x in tensors):
            self.found.append(f"{name} of a host tensor")
        if name == "tensor" and kwargs.get("device") is not None:
            self.found.append("tensor to a device")
        result = func(*args, **kwargs)
        is_made = name in MAKES and kwargs.get("device") is not None
        return result.as_subclass(OnDevice) if is_made else result

    def _is_of_host(self, x: Tensor) -> bool:
        is_weight = x.untyped_storage().data_ptr() in self._weights
        return not isinstance(x, OnDevice) and x.dim() > 0 and not is_weight


def _leaves(values: Any) -> Iterator[Any]:
    if isinstance(values, (tuple, list)):
        for value in values:
            yield from _leaves(value)
    elif isinstance(values, dict):
        yield from _leaves(list(values.values()))
    else:
        yield values


def _waits_for_index(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(
        isinstance(part, list) or (isinstance(part, Tensor) and part.dtype == torch.bool)
        for part in parts
    )


def move(engine: Engine) -> None:
    """Let the tensors of an engine count as the device's."""
    state = engine._state
    assert state is not None
    for record in (state, state.sampling, engine._pages, engine._conventions):
        names = getattr(record, "__slots__", None) or vars(record)
        for name in names:
            value = getattr(record, name)
            if isinstance(value, Tensor):
                object.__setattr__(record, name, value.as_subclass(OnDevice))
    for module in engine.model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = buffer.as_subclass(OnDevice)


@contextmanager
def device_of(engine: Engine) -> Generator[Waits]:
    """Treat an engine's tensors as a device's, with its two exits: pinned numbers in, the report out."""
    sent, send = sequence_state.on_device, HostState.send

    def on_device(*args: Any) -> Tensor:
        return sent(*args).as_subclass(OnDevice)

    def report(self: HostState, state: Any, snapshot: Snapshot | None) -> Report:
        found = send(self, state, snapshot)
        if found.snapshot:
            columns = found.snapshot.columns.as_subclass(Tensor)
            found = found._replace(snapshot=found.snapshot._replace(columns=columns))
        return found._replace(counters=found.counters.as_subclass(Tensor))

    move(engine)
    with pytest.MonkeyPatch.context() as patch:
        for module in (canvas_stream, engine_module, pages, sequence_state):
            patch.setattr(module, "on_device", on_device)
        patch.setattr(HostState, "send", report)
        with Waits(engine.model.parameters()) as waits:
            yield waits
