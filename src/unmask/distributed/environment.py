"""The variables by which a launcher (torchrun) tells a process its place; importing this loads no torch."""

import os
from typing import NamedTuple

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Place(NamedTuple):
    """The place of a process among those of a run."""

    rank: int = 0
    local_rank: int = 0
    size: int = 1


def place() -> Place:
    """Return the place of this process; the only one where no launcher set all variables."""
    found = os.environ
    if not all(name in found for name in VARIABLES):
        return Place()
    return Place(
        rank=int(found["RANK"]),
        local_rank=int(found["LOCAL_RANK"]),
        size=int(found["WORLD_SIZE"]),
    )
