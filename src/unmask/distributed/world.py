"""The processes of a run: one per device, started by torchrun, each with the same program.

What is cheap is computed on every rank from the same data; what is expensive is shared out: responses, their
grading, and the passes of packs. A world of one process has no process group: its methods return what they
are given.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from unmask.runs.signals import Stopped

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

T = TypeVar("T")


class AgreedError(ValueError):
    """An error that the user can correct, raised on every rank: rank 0 alone prints it."""


class Failure(NamedTuple):
    """An exception of one rank, as the others read it."""

    rank: int
    kind: str
    message: str
    stopped: tuple[int, int] | None = None  # signal number and kept step

    @property
    def is_users(self) -> bool:
        """Whether the user can correct it."""
        return self.kind in ("ValueError", "OSError")


@dataclass(frozen=True, slots=True)
class World:
    """The ranks of a run.

    Attributes:
        rank: of this process, from 0.
        size: number of processes.
        mesh: of devices over which weights are sharded: dimensions `replicate` and `shard`; None for one
            process.
        is_restart: whether the launcher has started the run again after a failure: it goes on from its last
            checkpoint, as if resumed.
        parts: names of the parts that this process runs without the others at present.
        signals: that arrived where another rank waits in a collective; the next part raises `Stopped`.
    """

    rank: int = 0
    size: int = 1
    mesh: "DeviceMesh | None" = None
    is_restart: bool = False
    parts: list[str] = field(default_factory=list[str], compare=False)
    signals: list[int] = field(default_factory=list[int], compare=False)

    @property
    def may_stop(self) -> bool:
        """Whether this process may raise `Stopped` here: no other rank waits for it in a collective."""
        return self.size == 1 or bool(self.parts)

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which alone writes the run, the report and the console."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Return the items of this rank: every `size`-th one."""
        return items[self.rank :: self.size]

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks, in the order of ranks, on every rank.

        Values travel as torch's object collectives do, between the processes of one job.
        """
        if self.size == 1:
            return [value]
        found: list[T | None] = [None] * self.size
        dist.all_gather_object(found, value)
        return found  # pyright: ignore[reportReturnType] - all are filled now

    def gather_shares(self, own: Sequence[T]) -> list[T]:
        """Return the items of all ranks in the order that they had before `share`."""
        if self.size == 1:
            return list(own)
        found = self.gather(own)
        count = sum(map(len, found))
        return [found[place % self.size][place // self.size] for place in range(count)]

    def sum(self, tensor: Tensor) -> Tensor:
        """Return a tensor of every rank's, summed over ranks in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    @contextmanager
    def together(self, part: str) -> Generator[None, None, None]:
        """Run a part that has no collectives; an exception on one rank is raised on every rank.

        All ranks have reached the end of the part when it returns.

        Args:
            part: its name, for messages.

        Raises:
            AgreedError: an error that the user can correct, naming its rank.
            Stopped: a signal reached one of the ranks.
            RuntimeError: another exception of another rank; its own rank raises the exception itself.
        """
        if self.size == 1:
            yield
            return
        error: BaseException | None = None
        try:
            self.parts.append(part)
            try:
                if self.signals:
                    raise Stopped(self.signals[0], 0)
                yield
            finally:
                # Cleared inside the `try`: a signal handler that raises before is caught below.
                self.parts.clear()
        except BaseException as found:
            error = found
        failures = [f for f in self.gather(self._failure(error)) if f is not None]
        if failures:
            _raise(failures, part, self.size, error)

    def check_equal(self, what: str, compute: Callable[[], object]) -> None:
        """Compare what every rank computes by itself: a collective.

        Args:
            what: its name in the plural, for the message.
            compute: returns what is compared, by a digest of its text; not called by one process.

        Raises:
            AgreedError: naming the first rank that differs from rank 0.
        """
        if self.size == 1:
            return
        first, *others = self.gather(blake2b(repr(compute()).encode()).digest())
        for rank, other in enumerate(others, start=1):
            if other != first:
                self.fail(
                    f"rank {rank} has other {what} than rank 0: give all processes the same files and the "
                    "same versions of packages"
                )

    def fail(self, message: str) -> NoReturn:
        """Raise an error that every rank has found by itself, from the same numbers."""
        raise ValueError(message) if self.size == 1 else AgreedError(message)

    def _failure(self, error: BaseException | None) -> Failure | None:
        if error is None:
            return None
        if isinstance(error, Stopped):
            return Failure(self.rank, "Stopped", str(error), (error.signal_number, error.step))
        kinds = {ValueError: "ValueError", OSError: "OSError"}
        kind = next((n for k, n in kinds.items() if isinstance(error, k)), type(error).__name__)
        notes: list[str] = getattr(error, "__notes__", [])
        text = str(error)
        if isinstance(error, OSError) and error.strerror:
            text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        return Failure(self.rank, kind, "; ".join((text, *notes)))


ALONE = World()


def _raise(
    failures: Sequence[Failure], part: str, size: int, own: BaseException | None
) -> NoReturn:
    """Raise what the ranks agree on: a bug before a signal, a signal before an error of the user."""
    bugs = [f for f in failures if not f.is_users and f.stopped is None]
    if bugs:
        if own is not None and bugs[0].kind == type(own).__name__:
            raise own
        first = bugs[0]
        raise RuntimeError(f"rank {first.rank}, {part}: {first.kind}: {first.message}") from own
    for failure in failures:
        if failure.stopped is not None:
            raise Stopped(*failure.stopped)
    first = failures[0]
    is_common = len(failures) == size and len({f.message for f in failures}) == 1
    where = "" if is_common or first.rank == 0 else f"rank {first.rank}: "
    raise AgreedError(where + first.message) from own


def device_mesh(
    device_type: str, size: int, shard: int, limit: timedelta | None = None
) -> "DeviceMesh":
    """Return the mesh of `size` ranks: `size / shard` copies of the weights, each over `shard` ranks.

    Args:
        device_type: of the weights.
        size: number of ranks.
        shard: ranks of a copy.
        limit: longest wait of a collective; torch's default if not given.
    """
    from torch.distributed.device_mesh import DeviceMesh

    ranks = torch.arange(size).view(-1, shard)  # (copies, ranks of a copy)
    # Groups of our own, not those of `init_device_mesh`, which have torch's default limit.
    groups: list[Any] = [
        dist.new_subgroups_by_enumeration(rows.tolist(), timeout=limit)[0]
        for rows in (ranks.T, ranks)
    ]
    return DeviceMesh.from_group(groups, device_type, ranks, mesh_dim_names=("replicate", "shard"))


def world_of_group(
    shard: int | None, device: torch.device, limit: timedelta | None = None
) -> World:
    """Return the world of torch's default process group.

    Args:
        shard: ranks that hold one copy of the weights; all of them if not given.
        device: of the weights.
        limit: longest wait of a collective; torch's default if not given.

    Raises:
        ValueError: if `shard` does not divide the number of ranks.
    """
    rank, size = dist.get_rank(), dist.get_world_size()
    if size == 1:
        return ALONE
    shard = shard or size
    if size % shard:
        raise ValueError(
            f"distributed.shard = {shard}: does not divide the {size} processes of the run; give a divisor, "
            "or leave it out to shard the weights over all of them"
        )
    return World(rank, size, device_mesh(device.type, size, shard, limit))
