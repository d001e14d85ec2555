"""Numbers of every target of several trajectories, read and written by where a target came from.

A target's origin is (trajectory, view, position), not its place in a pack, so a table outlives
shuffling, splitting into minibatches and several epochs.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


class TargetTable:
    """A number, or several, for every view and position of several trajectories, `(N, C)` or `(N, C, M)` each."""

    def __init__(self, tables: Sequence[Tensor], device: torch.device | None = None) -> None:
        """Lay the tables of trajectories one after another.

        Args:
            tables: `(N, C)` each, or `(N, C, M)`.
            device: of the table; the tables' own when not given.
        """
        self._shapes = [table.shape for table in tables]
        sizes = [shape[:2].numel() for shape in self._shapes]
        self._flat = torch.cat([t.flatten(0, 1) for t in tables]) if tables else torch.zeros(0)
        self._flat = self._flat.to(device or self._flat.device)
        at = self._flat.device
        self._starts = torch.tensor([0, *sizes], device=at).cumsum(0)
        self._num_positions = torch.tensor([shape[1] for shape in self._shapes], device=at)

    def read(self, origin: Tensor) -> Tensor:
        """Return the numbers `(S,)` or `(S, M)` at `origin (3, S)`: trajectory, view and position of each."""
        return self._flat[self._index(origin)]

    def write(self, origin: Tensor, values: Tensor) -> None:
        """Set `values`, `(S,)` or `(S, M)`, at `origin (3, S)`."""
        self._flat[self._index(origin)] = values.to(self._flat)

    def tables(self) -> list[Tensor]:
        """Return the numbers of each trajectory, as they were given."""
        parts = self._flat.split([shape[:2].numel() for shape in self._shapes])
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def _index(self, origin: Tensor) -> Tensor:
        """Return the flat index `(S,)`: a trajectory's tables are row-major, one after another."""
        trajectory, view, position = origin.to(self._flat.device)
        return self._starts[trajectory] + view * self._num_positions[trajectory] + position


def tables_of(
    columns: Sequence[Mapping[str, Tensor]], device: torch.device | None = None
) -> dict[str, TargetTable]:
    """Return a table for each named column.

    Args:
        columns: of each trajectory, `(N, C)` by name, all under the same names.
        device: of the tables.
    """
    names = columns[0].keys() if columns else ()
    return {name: TargetTable([row[name] for row in columns], device) for name in names}
