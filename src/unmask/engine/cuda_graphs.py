"""CUDA graphs: a step of one shape is captured once and replayed.

A step launches hundreds of small kernels, and without a graph the host takes longer to launch them than the
device to run them. A graph holds addresses, so it is valid while the state and the pages stay where they
are, for one set of sizes and one set of `Needs`.
"""

from collections.abc import Callable, Hashable
from typing import Any

import torch

from unmask.engine.attention import Backend
from unmask.engine.options import EngineParams
from unmask.models.stacked_linear import waits_for_router
from unmask.models.transformer import Model


class Graphs:
    """Captured steps, by their shape."""

    def __init__(self) -> None:
        """Start without graphs."""
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._memory: Any = None  # the pool that all graphs share
        self._stream: torch.cuda.Stream | None = None  # captures run on it
        self._home: tuple[object, ...] = ()

    def clear(self) -> None:
        """Drop every graph: the tensors they point to have moved."""
        self._graphs = {}
        self._memory = None

    def stay_at(self, *home: object) -> None:
        """Drop every graph if one of the objects it points into is not the same as at the last step.

        Objects are compared by identity: an address may be reused.
        """
        # Both are alive, so equal ids mean the same objects.
        if list(map(id, home)) != list(map(id, self._home)):
            self.clear()
        self._home = home

    def run(self, key: Hashable, step: Callable[[], None]) -> None:
        """Take a step: replay its graph if there is one, else run it and capture it for the next time.

        Args:
            key: everything the step's kernels and their shapes depend on.
            step: changes tensors in place and does not wait for the device.
        """
        graph = self._graphs.get(key)
        if graph is not None:
            graph.replay()
            return
        # The first run is eager: libraries choose their kernels, which is not allowed during capture.
        step()
        graph = torch.cuda.CUDAGraph()
        # Graphs that share memory share a stream. Torch's own one belongs to the device of the first capture.
        self._stream = self._stream or torch.cuda.Stream()
        # A capture records without running, so the state does not advance a second time. Other threads may
        # use the device meanwhile, for a reward model for example.
        with torch.cuda.graph(
            graph, pool=self._memory, stream=self._stream, capture_error_mode="thread_local"
        ):
            step()
        self._memory = self._memory or graph.pool()
        self._graphs[key] = graph


def captures(params: EngineParams, backend: Backend, model: Model, device: torch.device) -> bool:
    """Return whether steps on `device` are captured as CUDA graphs: nothing in them may wait for it.

    Plain attention waits for sizes from the device, as do experts without a grouped kernel.
    """
    may_capture = params.uses_graphs and bool(params.reads_late) and device.type == "cuda"
    return may_capture and backend.is_static and not waits_for_router(model)
