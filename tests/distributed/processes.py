"""Commands in several real processes, started with torchrun's variables as torchrun does."""

import re
import socket
from collections.abc import Mapping

from tests.end_to_end.real_command import end, start
from tests.forked_python import ForkedPython

TORCH_WARNING = re.compile(
    r"^(\[rank\d+\]:)?\[W\d+ .*\n(Exception raised from .*\n)?(frame #.*\n|<omitting .*\n)*\n?",
    re.MULTILINE,
)


def start_ranks(
    words: list[str],
    size: int = 2,
    of_rank: Mapping[int, Mapping[str, str]] | None = None,
    more: Mapping[int, list[str]] | None = None,
) -> list[ForkedPython]:
    """Start `unmask` with these words on `size` ranks.

    Args:
        words: of the command.
        size: number of ranks.
        of_rank: further variables of single ranks.
        more: further words of single ranks.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    places = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]
    own, more = of_rank or {}, more or {}
    return [
        start([*words, *more.get(rank, [])], **common, **place, **own.get(rank, {}))
        for rank, place in enumerate(places)
    ]


def end_ranks(processes: list[ForkedPython]) -> list[tuple[int, str]]:
    """Wait for their ends; return exit code and stderr of each, without torch's warnings of a store that has ended.

    Real processes turn them off before torch is loaded, which it is here.
    """
    found = [end(process) for process in processes]
    return [(code, TORCH_WARNING.sub("", text)) for code, text in found]


def run_ranks(
    words: list[str],
    size: int = 2,
    of_rank: Mapping[int, Mapping[str, str]] | None = None,
    more: Mapping[int, list[str]] | None = None,
) -> list[tuple[int, str]]:
    """Run `unmask` on several ranks; return exit code and stderr of each."""
    return end_ranks(start_ranks(words, size, of_rank, more))
