"""Parts of a run that ranks have in common: what rank 0 does for all, and long work in rounds.

A rank that is ready early waits for the others in a collective, which has a time limit, and an error of one
rank reaches the others at the end of a part only. So work that takes longer than that limit is cut into
rounds of some seconds: `in_rounds` is the loop of evaluation and data generation.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from time import monotonic
from types import FrameType
from typing import TypeVar, cast

import torch.distributed as dist

from unmask.distributed.world import World
from unmask.runs.signals import Stopped, on_signal

T = TypeVar("T")
ROUND_S = 5.0

Steps = Generator[Sequence[T], None, None]


@contextmanager
def stoppable(world: World) -> Generator[None, None, None]:
    """Raise `Stopped` on all ranks for a SIGINT or SIGTERM of one of them inside the `with`, in their parts."""

    def stop(number: int, frame: FrameType | None) -> None:
        if world.may_stop:
            raise Stopped(number, 0)
        world.signals.append(number)

    with on_signal(stop):
        yield


def on_main(world: World, part: str, function: Callable[[], T]) -> T:
    """Return on every rank what a function returns on rank 0, which alone calls it.

    Args:
        world: the ranks.
        part: its name, for messages.
        function: without collectives; its value is pickled.

    Raises:
        AgreedError: as `World.together`.
    """
    found: list[T | None] = [None]
    with world.together(part):
        if world.is_main:
            found = [function()]
    if world.size > 1:
        dist.broadcast_object_list(found)
    return cast(T, found[0])


def in_rounds(
    world: World,
    part: str,
    own: Steps[T],
    take: Callable[[Sequence[T]], None],
    round_s: float = ROUND_S,
) -> None:
    """Run the steps of every rank; after each round, rank 0 takes the results of all.

    Alone, each step is a round. With several ranks a round ends after `round_s` seconds and the step that is
    then running, so that steps shorter than a round keep all ranks busy.

    Args:
        world: the ranks.
        part: its name, for messages.
        own: the steps of this rank, without collectives; yields the results of each, which are pickled. It is
            closed after an error of any rank.
        take: called on rank 0 with the results of a round, rank after rank; without collectives.
        round_s: seconds between collectives.

    Raises:
        AgreedError: as `World.together`.
    """
    is_over = False
    with closing(own):
        while not is_over:
            with world.together(part):
                found, is_ready = _round(own, 0.0 if world.size == 1 else round_s)
            is_over = all(world.gather(is_ready))
            results = _on_rank_0(found, world)
            with world.together(part):
                if world.is_main:
                    take([item for of_rank in results for item in of_rank])


def _on_rank_0(value: T, world: World) -> list[T]:
    """Return on rank 0 the values of all ranks, in their order; on other ranks none.

    `World.gather` allocates the largest value once for each rank, on every rank.
    """
    if world.size == 1:
        return [value]
    found: list[T | None] = [None] * world.size if world.is_main else []
    dist.gather_object(value, found if world.is_main else None)
    return cast(list[T], found)


def _round(steps: Steps[T], seconds: float) -> tuple[list[T], bool]:
    """Return the results of the next seconds, at least of one step, and whether all steps are done."""
    found: list[T] = []
    end = monotonic() + seconds
    for items in steps:
        found += items
        if monotonic() >= end:
            return found, False
    return found, True
