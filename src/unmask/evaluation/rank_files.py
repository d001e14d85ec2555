"""Responses on disk while several ranks write them: a file for each rank, merged at the end.

Rank 0 writes `trajectories.jsonl` and `failures.jsonl`, as one process does; rank 3 writes
`trajectories.rank3.jsonl`. Files of several machines are not appended to by more than one of them: appending is
not atomic on network file systems. A response counts in whichever file it is, so that a run is resumed at
any number of ranks. `merge` puts all of them into the first file, in the order of the plan, and removes the
others; where it is killed in between, a response is in two files, and the next merge takes the first.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from unmask.json_files import parse_object, read_objects
from unmask.runs.directory import TRAJECTORIES
from unmask.runs.files import atomic_file, cut_unfinished_line
from unmask.runs.gradings import Key, key_of

FAILURES = "failures.jsonl"
NAMES = (TRAJECTORIES, FAILURES)


class Place(NamedTuple):
    """The place of a record: file, first byte and number of bytes."""

    path: Path
    start: int
    size: int


def file_of_rank(path: Path, rank: int) -> Path:
    """Return the file to which a rank appends what one process would append to `path`."""
    return path.with_suffix(f".rank{rank}.jsonl") if rank else path


def files_of_ranks(path: Path, size: int = 1) -> list[Path]:
    """Return the existing files of all ranks, that of rank 0 first; those of `size` ranks are looked for by name.

    A network file system may list a directory as it was seconds ago, but opens a name that exists.
    """
    listed = set(path.parent.glob(f"{path.stem}.rank*.jsonl"))
    named = {file_of_rank(path, rank) for rank in range(size)}
    return sorted((p for p in listed | named if p.is_file()), key=lambda p: (p != path, p.name))


def keys_there(run: Path) -> set[Key]:
    """Return the keys of all responses and failures on disk, after unfinished lines have been removed."""
    found: set[Key] = set()
    for name in NAMES:
        for path in files_of_ranks(run / name):
            cut_unfinished_line(path)
            found.update(key_of(record) for record in read_objects(path))
    return found


def merge(run: Path, order: Mapping[Key, int], size: int) -> None:
    """Put the records of all ranks into the files of a run of one process; do nothing if they are there.

    Args:
        run: directory of the run.
        order: place of each key in the plan; all have been written.
        size: number of ranks.

    Raises:
        OSError: files of another machine cannot be read here.
    """
    files = {name: files_of_ranks(run / name, size) for name in NAMES}
    if size == 1 and all(path.name in NAMES for paths in files.values() for path in paths):
        return
    places = {name: _places(paths) for name, paths in files.items()}
    num_missing = len(order) - len({key for found in places.values() for key in found})
    if num_missing:
        raise OSError(
            f"{run}: {num_missing} of {len(order)} responses, which other ranks have written, cannot be read by "
            "rank 0; all machines must share this directory; resume with --resume"
        )
    for name, found in places.items():
        if found:
            _merge(run / name, sorted(found.items(), key=lambda item: order[item[0]]))
        for path in files[name]:
            if path.name != name:
                path.unlink()


def _places(paths: Sequence[Path]) -> dict[Key, Place]:
    """Return the place of each record; the records of a large evaluation are tens of gigabytes."""
    found: dict[Key, Place] = {}
    for path in paths:
        start = 0
        with path.open("rb") as file:
            for line in file:
                key = key_of(parse_object(line, f"{path}, byte {start}"))
                found.setdefault(key, Place(path, start, len(line)))
                start += len(line)
    return found


def _merge(path: Path, ordered: Sequence[tuple[Key, Place]]) -> None:
    with atomic_file(path) as merged, ExitStack() as stack:
        files = {p: stack.enter_context(p.open("rb")) for p in {place.path for _, place in ordered}}
        for _, place in ordered:
            files[place.path].seek(place.start)
            merged.write(files[place.path].read(place.size))
