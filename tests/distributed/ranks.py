"""Functions run on several ranks: processes of this machine in one gloo process group."""

import pickle
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist

from tests.forked_python import context, spare_time
from unmask.distributed.world import World, world_of_group

TIME_LIMIT_S = 240


def on_ranks(
    function: Callable[..., Any], *arguments: Any, size: int = 2, shard: int | None = None
) -> list[Any]:
    """Return what `function(world, *arguments)` returns on each of `size` ranks.

    Args:
        function: of a module, so that another process can import it.
        arguments: the same for every rank.
        size: number of ranks.
        shard: ranks that hold one copy of the weights; all by default.

    Raises:
        AssertionError: with the traceback of a rank that failed.
    """
    with TemporaryDirectory(prefix="ranks-") as place:
        ends = [context.Pipe(duplex=False) for _ in range(size)]
        processes = [
            context.Process(
                target=_run,
                args=(sender, rank, size, shard, Path(place) / "store", function, arguments),
                daemon=True,
            )
            for rank, (_, sender) in enumerate(ends)
        ]
        for process in processes:
            process.start()
        for _, sender in ends:
            sender.close()
        found: list[Any] = []
        for rank, (receiver, _) in enumerate(ends):
            assert receiver.poll(TIME_LIMIT_S), f"rank {rank} sent nothing in {TIME_LIMIT_S} s"
            is_done, value = pickle.loads(receiver.recv_bytes())
            assert is_done, f"rank {rank}:\n{value}"
            found.append(value)
        for process in processes:
            process.join(TIME_LIMIT_S)
        return found


def _run(
    sender: Any,
    rank: int,
    size: int,
    shard: int | None,
    store: Path,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    spare_time()
    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{store}",
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=TIME_LIMIT_S),
        )
        world: World = world_of_group(shard, torch.device("cpu"))
        # As bytes: a pipe of torch would pass the memory of tensors, which goes with this process.
        sender.send_bytes(pickle.dumps((True, function(world, *arguments))))
        dist.barrier()  # the store goes with the process of the first rank
        dist.destroy_process_group()
    except BaseException:
        sender.send_bytes(pickle.dumps((False, traceback.format_exc())))
        raise
