"""The ranks of a run: what they share out, gather and agree on."""

from datetime import timedelta
from typing import Any

import pytest
import torch

from tests.distributed.ranks import on_ranks
from unmask.distributed.world import ALONE, AgreedError, World, world_of_group
from unmask.runs.signals import Stopped


def shares(world: World, items: list[int]) -> tuple[list[int], list[int], list[int], float]:
    own = world.share(items)
    summed = world.sum(torch.tensor([float(world.rank + 1)]))
    return list(own), world.gather_shares(own), world.gather(world.rank), float(summed)


def test_shares_come_back_in_their_order() -> None:
    items = list(range(7))
    first, second, third = on_ranks(shares, items, size=3)
    assert (first[0], second[0], third[0]) == ([0, 3, 6], [1, 4], [2, 5])
    assert first[1] == second[1] == third[1] == items
    assert first[2:] == second[2:] == third[2:] == ([0, 1, 2], 6.0)
    assert ALONE.gather_shares(ALONE.share(items)) == items


def failing(
    world: World, kind: type[BaseException], arguments: tuple[Any, ...], rank: int | None
) -> tuple[str, str]:
    try:
        with world.together("grading"):
            if rank is None or world.rank == rank:
                raise kind(*arguments)
    except BaseException as found:
        return type(found).__name__, str(found)
    return "", ""


@pytest.mark.parametrize("rank", [0, 1, None])
def test_an_error_of_one_rank_is_raised_on_all(rank: int | None) -> None:
    found = on_ranks(failing, ValueError, ("task.path: empty",), rank)
    message = "rank 1: task.path: empty" if rank == 1 else "task.path: empty"
    assert found == [(AgreedError.__name__, message)] * 2


def test_a_signal_that_one_rank_received_stops_all() -> None:
    found = on_ranks(failing, Stopped, (15, 3), 1)
    assert found == [("Stopped", str(Stopped(15, 3)))] * 2


def test_a_bug_is_raised_where_it_is_and_named_elsewhere() -> None:
    own, other = on_ranks(failing, TypeError, ("no len",), 0)
    assert own == ("TypeError", "no len")
    assert other == ("RuntimeError", "rank 0, grading: TypeError: no len")


def test_alone_an_error_passes_as_it_is() -> None:
    with pytest.raises(ValueError, match=r"^bad$"), ALONE.together("grading"):
        raise ValueError("bad")


def compared(world: World, differing: int) -> str:
    try:
        world.check_equal("prompts at step 3", lambda: [1, world.rank == differing])
    except AgreedError as error:
        return str(error)
    return ""


def test_the_first_rank_with_other_data_is_named() -> None:
    assert on_ranks(compared, 9, size=2) == ["", ""]
    message, *others = on_ranks(compared, 1, size=3)
    assert message.startswith("rank 1 has other prompts at step 3 than rank 0: ")
    assert others == [message] * 2


def test_a_process_may_stop_where_no_other_waits_for_it() -> None:
    assert ALONE.may_stop
    world = World(0, 2)
    assert not world.may_stop
    world.parts.append("rollout")
    assert world.may_stop


def limits_s(world: World) -> list[float]:
    mesh = world_of_group(None, torch.device("cpu"), timedelta(seconds=7)).mesh
    assert mesh is not None
    groups = [
        mesh.get_group(name)._get_backend(torch.device("cpu")) for name in ("replicate", "shard")
    ]
    return [group.options._timeout.total_seconds() for group in groups]


def test_collectives_of_weights_have_the_time_limit_of_the_run() -> None:
    assert on_ranks(limits_s) == [[7.0, 7.0]] * 2
