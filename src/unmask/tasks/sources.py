"""Reads the records of a public data set.

The first of three places that has the split is read: `task.path`, the directory `$UNMASK_DATA`, the
hub through the optional `datasets` package. In a directory a file is found by the beginning of its
name (`Source.file`); two matching files are an error, because a score would not state which one was
read. Nothing is downloaded where a path was given.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from unmask.data.record_files import ENDINGS, has_datasets, read_file, read_hub
from unmask.data.record_images import RecordImages
from unmask.tasks.dataset import Dataset, Source
from unmask.tasks.record import Record, record_from_json
from unmask.types import Split

VARIABLE, IMAGE_ROOT = "UNMASK_DATA", "task.image_root"


def read_split(
    dataset: Dataset, split: Split, path: Path | None, image_root: Path | None = None
) -> Iterator[Record]:
    """Read the records of one published split.

    Args:
        dataset: the data set; it has a source for `split`.
        split: which split.
        path: `task.path`.
        image_root: `task.image_root`.

    Raises:
        ValueError: the split is in none of the three places, or cannot be read there.
    """
    source = dataset.sources[split]
    folder = os.environ.get(VARIABLE)
    local = file_in(Path(folder), source) if folder and path is None else None
    if path is not None:
        return file_records(_file_at(path, dataset, split), "task.path", image_root)
    if local is not None:
        return file_records(local, f"${VARIABLE}", image_root)
    if not has_datasets():
        raise ValueError(
            f"the {split} problems of {dataset.hub} were not found: give task.path (or --from), or set "
            f"{VARIABLE} to a directory with {source.file}.jsonl, or `pip install 'unmask[data]'` "
            "to load them from the hub"
        )
    try:
        rows = read_hub(dataset.hub, dataset.subset, source.hub_split)
    except ValueError as error:
        raise ValueError(
            f"{error}: download its files and give task.path (or --from), or set {VARIABLE} to a directory with "
            f"{source.file}.jsonl"
        ) from error
    images = RecordImages(image_root, IMAGE_ROOT)
    return (record_from_json(place, value, images) for place, value in rows)


def file_records(path: Path, key: str, image_root: Path | None = None) -> Iterator[Record]:
    """Yield the records of a file; paths of images are below `image_root`, or its own directory."""
    images = RecordImages(image_root or path.parent, IMAGE_ROOT)
    return (record_from_json(place, value, images) for place, value in read_file(path, key))


def _file_at(path: Path, dataset: Dataset, split: Split) -> Path:
    source = dataset.sources[split]
    if path.is_dir():
        found = file_in(path, source)
        if found is None:
            raise ValueError(
                f"task.path = {path}: it has no file of the {split} problems; name it {source.file}.jsonl "
                f"({', '.join(ENDINGS)} are read)"
            )
        return found
    if len(dataset.sources) == 1 or is_of(path, source):
        return path
    raise ValueError(
        f"task.path = {path}: the name of a file of {split} problems must begin with "
        f"{source.file}; rename it, or give a directory of such files"
    )


def file_in(folder: Path, source: Source) -> Path | None:
    """Return the file of a split in a directory, if there is one.

    Raises:
        ValueError: there is no such directory, or several files hold the split.
    """
    if not folder.is_dir():
        raise ValueError(f"{VARIABLE} = {folder}: there is no such directory")
    found = sorted(path for path in folder.iterdir() if is_of(path, source))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(f"{folder}: {names} all hold this split; give one of them as task.path")
    return found[0] if found else None


def is_of(path: Path, source: Source) -> bool:
    """Return whether a file's name is that of a split."""
    rest = path.name.removeprefix(source.file)
    return rest != path.name and rest[:1] in ("-", ".") and rest.endswith(ENDINGS)
