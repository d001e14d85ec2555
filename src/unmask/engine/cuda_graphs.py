"""CUDA graphs: a step of one shape is captured once and replayed.

A step launches hundreds of small kernels, and without a graph the host takes longer to launch them
than the device to run them. A graph holds addresses, so it lasts as long as the state and the pages
stay where they are, and belongs to one set of sizes and one set of things the requests need.
"""

from collections.abc import Callable, Hashable
from typing import Any

import torch


class Graphs:
    """Captured steps, by their shape."""

    def __init__(self) -> None:
        """Hold none yet."""
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._memory: Any = None  # the pool that all graphs share
        self._home: tuple[object, ...] = ()

    def clear(self) -> None:
        """Forget every graph: what they point to has moved."""
        self._graphs = {}
        self._memory = None

    def stay_at(self, *home: object) -> None:
        """Forget every graph if one of the things they point into is another one than at the last step.

        By identity: an address may be given to something else.
        """
        if len(home) != len(self._home) or any(
            now is not before for now, before in zip(home, self._home, strict=True)
        ):
            self.clear()
        self._home = home

    def run(self, key: Hashable, step: Callable[[], None]) -> None:
        """Take a step: replay it where its shape is known, else run it, and capture it for the next time.

        Args:
            key: everything the step's kernels and their shapes depend on.
            step: changes tensors in place, and waits for nothing.
        """
        graph = self._graphs.get(key)
        if graph is not None:
            graph.replay()
            return
        # The first time it runs as it is: libraries choose their kernels, which a capture forbids.
        step()
        graph = torch.cuda.CUDAGraph()
        # A capture records without running, so the state is not moved on a second time.
        with torch.cuda.graph(graph, pool=self._memory):
            step()
        self._memory = self._memory or graph.pool()
        self._graphs[key] = graph
