"""Digests of a saved directory, to detect damage.

`manifest.json` names every other file of its directory with the SHA-256 of its content. It is written
last, before the directory gets its final name (`runs/files.py`). A lost bit, a truncated copy and a file
of another step change the digest. The manifest is not a signature: rewriting it hides a change.

Files that were added later are not checked. A GiB takes about a second of one core.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from unmask.json_files import read_object
from unmask.runs.files import write_json

MANIFEST = "manifest.json"


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def saved_files(directory: Path) -> list[str]:
    """Return the names of all files in a directory and below it, without the manifest."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return [
        path.relative_to(directory).as_posix() for path in files if path != directory / MANIFEST
    ]


def digests(directory: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the digests of files of a directory, by name."""
    return {name: digest(directory / name) for name in names}


def write_manifest(directory: Path, held: Mapping[str, str] | None = None) -> None:
    """Write the digests of all files in a directory and below it.

    Args:
        directory: complete.
        held: the digests of `saved_files`, where they are computed already.
    """
    found = digests(directory, saved_files(directory)) if held is None else held
    write_json(directory / MANIFEST, dict(sorted(found.items())))


def damage(
    directory: Path, share: Callable[[Sequence[str]], Sequence[str]] = list
) -> Iterator[str]:
    """Yield a line for every file of a directory that is missing or not what was saved.

    Args:
        directory: with a manifest.
        share: the files that this process checks, of all.
    """
    manifest = directory / MANIFEST
    try:
        held = read_object(manifest)
    except (OSError, ValueError) as error:
        yield f"{manifest}: cannot be read, so the files cannot be checked: {error}"
        return
    if not held:
        yield f"{manifest}: must be an object of digests by file name, and is empty"
        return
    for name in share(list(held)):
        path, expected = directory / name, held[name]
        if not path.is_file():
            yield f"{path}: is missing"
        elif digest(path) != expected:
            yield f"{path}: is damaged or replaced: its content differs from what was saved"
