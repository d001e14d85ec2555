"""Parts that ranks have in common: values of rank 0, work in rounds, signals."""

import signal
from collections.abc import Generator, Sequence

import pytest

from tests.distributed.ranks import on_ranks
from unmask.distributed.parts import in_rounds, on_main, stoppable
from unmask.distributed.world import ALONE, AgreedError, World
from unmask.runs.signals import Stopped


def main_values(world: World) -> tuple[int, str]:
    value = on_main(world, "start", lambda: 7 + world.rank)
    try:
        on_main(world, "start", lambda: int("x"))
    except AgreedError as error:
        return value, str(error)
    return value, ""


def test_every_rank_has_the_value_and_the_error_of_rank_0() -> None:
    message = "invalid literal for int() with base 10: 'x'"
    assert on_ranks(main_values, size=3) == [(7, message)] * 3
    assert on_main(ALONE, "start", lambda: 3) == 3


def work(
    world: World, counts: Sequence[int], broken: int | None, round_s: float
) -> tuple[list[list[tuple[int, int]]], bool, str]:
    """Take `counts[rank]` steps on each rank; the second step of one rank may fail."""
    rounds: list[list[tuple[int, int]]] = []
    is_closed = False

    def own() -> Generator[Sequence[tuple[int, int]], None, None]:
        nonlocal is_closed
        try:
            for step in range(counts[world.rank]):
                if world.rank == broken and step == 1:
                    raise OSError("disk full")
                yield [(world.rank, step)]
        finally:
            is_closed = True

    try:
        in_rounds(world, "work", own(), lambda found: rounds.append([*found]), round_s)
    except ValueError as error:
        return rounds, is_closed, str(error)
    return rounds, is_closed, ""


@pytest.mark.parametrize("round_s", [0.0, 60.0])
def test_rank_0_takes_the_results_of_all_ranks(round_s: float) -> None:
    counts = (2, 0, 5)
    first, *others = on_ranks(work, counts, None, round_s, size=3)
    found = [item for one in first[0] for item in one]
    assert sorted(found) == [(rank, step) for rank in range(3) for step in range(counts[rank])]
    # A round of 0 seconds has one step of each rank; the last round finds out that no step is left.
    assert len(first[0]) == (1 if round_s else 6)
    assert others == [([], True, "")] * 2


def test_an_error_of_one_rank_ends_the_round_of_all() -> None:
    found = on_ranks(work, (100, 100), 1, 0.0)
    assert [(is_closed, message) for _, is_closed, message in found] == [
        (True, "rank 1: disk full")
    ] * 2
    assert found[0][0] == [[(0, 0), (1, 0)]]


def stopped(world: World, is_inside: bool) -> str:
    """Send rank 1 a signal inside of a part, or where rank 0 may wait for it already."""
    try:
        with stoppable(world):
            if world.rank == 1 and not is_inside:
                signal.raise_signal(signal.SIGTERM)
            with world.together("work"):
                if world.rank == 1 and is_inside:
                    signal.raise_signal(signal.SIGTERM)
    except Stopped as error:
        return str(error)
    return ""


@pytest.mark.parametrize("is_inside", [False, True])
def test_a_signal_of_one_rank_stops_all_in_a_part(is_inside: bool) -> None:
    assert on_ranks(stopped, is_inside) == [str(Stopped(signal.SIGTERM, 0))] * 2


def test_alone_each_step_is_a_round() -> None:
    assert work(ALONE, (3,), None, 60.0) == ([[(0, 0)], [(0, 1)], [(0, 2)], []], True, "")
