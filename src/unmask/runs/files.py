"""Files that are either whole or absent.

A reader, or the next start after a power cut, must never find half a file. So content is written
under a temporary name in the same directory, forced to the disk, and then renamed, which is atomic on
one file system. Leftovers of a killed process are called `*.tmp-*`, never the final name.
"""

import json
import mmap
import os
import re
import shutil
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any, BinaryIO

LEFTOVER = re.compile(r"(.+)\.(tmp|old)-[0-9a-f]{8}", re.DOTALL)


@contextmanager
def atomic_file(path: Path) -> Generator[BinaryIO, None, None]:
    """Yield a file to fill; without an exception it replaces an older one at once.

    Raises:
        OSError: the directory does not exist or cannot be written, or the disk is full; an older
            file is then still whole.
    """
    temporary = _beside(path, "tmp")
    try:
        with temporary.open("wb") as file:
            yield file
        force_to_disk(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    force_to_disk(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file, replacing an older one at once.

    Raises:
        OSError: as `atomic_file`.
    """
    with atomic_file(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, replacing an older file at once.

    Raises:
        ValueError: the value holds NaN or an infinity, which JSON does not have.
        OSError: as `atomic_file`.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def append_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Append records to a JSON Lines file, all of them in one write.

    Raises:
        ValueError: a record holds NaN or an infinity, which JSON does not have.
    """
    lines = [json.dumps(record, ensure_ascii=False, allow_nan=False) for record in records]
    with path.open("ab") as file:
        file.write("".join(f"{line}\n" for line in lines).encode())


def cut_unfinished_line(path: Path) -> None:
    """Remove an unfinished last line, which a killed writer left; do nothing where no file exists."""
    if not path.is_file() or path.stat().st_size == 0:
        return
    with path.open("r+b") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            kept = content.rfind(b"\n") + 1
        file.truncate(kept)


@contextmanager
def atomic_directory(path: Path) -> Generator[Path, None, None]:
    """Yield an empty directory to fill; without an exception it becomes `path`, replacing an older one.

    An exception inside the `with` removes it and leaves an older `path` as it was. Replacing takes
    two renames: a process killed just between them leaves the older directory as `*.old-*` and the
    whole newer one as `*.tmp-*`.

    Raises:
        OSError: as `atomic_file`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = _beside(path, "tmp"), _beside(path, "old")
    temporary.mkdir()
    try:
        yield temporary
        for entry in (*temporary.rglob("*"), temporary):
            force_to_disk(entry)
        if path.exists():
            path.replace(old)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    force_to_disk(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def remove_directory(path: Path) -> None:
    """Remove a directory; it is renamed first, so that a half removed one does not keep its name."""
    temporary = _beside(path, "tmp")
    path.replace(temporary)
    shutil.rmtree(temporary, ignore_errors=True)


def is_leftover(path: Path) -> bool:
    """Return whether a name is that of a killed process's leftover."""
    return LEFTOVER.fullmatch(path.name) is not None


def remove_leftovers(directory: Path) -> None:
    """Remove a killed process's leftovers in a directory and below it.

    A directory that was killed between the two renames of its replacement gets its older one back.
    """
    for old in list(directory.rglob("*.old-*")):
        match = LEFTOVER.fullmatch(old.name)
        if match and match[2] == "old" and not old.with_name(match[1]).exists():
            old.replace(old.with_name(match[1]))
    for path in [path for path in directory.rglob("*") if is_leftover(path)]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def force_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(path: Path, kind: str) -> Path:
    # Not tempfile: it would make the file readable by its owner only.
    return path.with_name(f"{path.name}.{kind}-{token_hex(4)}")
