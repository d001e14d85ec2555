"""Reads the records of a public data set.

The first of three places that has the split is read: `task.path`, the directory `$UNMASK_DATA`, the
hub through the optional `datasets` package. In a directory a file is found by the beginning of its
name (`Source.file`); two matching files are an error, because a score would not state which one was
read. Nothing is downloaded where a path was given.
"""

import importlib.util
import os
from collections.abc import Iterable, Iterator
from itertools import starmap
from pathlib import Path
from typing import Any

from unmask.json_files import read_records
from unmask.tasks.dataset import Dataset, Source
from unmask.tasks.record import Record, record_from_json
from unmask.types import Split

VARIABLE = "UNMASK_DATA"
ENDINGS = (".jsonl", ".json", ".jsonl.gz", ".json.gz", ".parquet")


def read_split(dataset: Dataset, split: Split, path: Path | None) -> Iterator[Record]:
    """Read the records of one published split.

    Args:
        dataset: the data set; it has a source for `split`.
        split: which split.
        path: `task.path`.

    Raises:
        ValueError: the split is in none of the three places, or cannot be read there.
    """
    source = dataset.sources[split]
    folder = os.environ.get(VARIABLE)
    local = _file_in(Path(folder), source) if folder and path is None else None
    if path is not None:
        return _read_file(_file_at(path, dataset, split), "task.path")
    if local is not None:
        return _read_file(local, f"${VARIABLE}")
    if importlib.util.find_spec("datasets") is None:
        raise ValueError(
            f"the {split} problems of {dataset.hub} were not found: give task.path, or set "
            f"{VARIABLE} to a directory with {source.file}.jsonl, or `pip install 'unmask[datasets]'` "
            "to load them from the hub"
        )
    return starmap(record_from_json, _hub_records(dataset, source))


def _file_at(path: Path, dataset: Dataset, split: Split) -> Path:
    source = dataset.sources[split]
    if path.is_dir():
        found = _file_in(path, source)
        if found is None:
            raise ValueError(
                f"task.path = {path}: it has no file of the {split} problems; name it {source.file}.jsonl "
                f"({', '.join(ENDINGS)} are read)"
            )
        return found
    if len(dataset.sources) == 1 or _is_of(path, source):
        return path
    raise ValueError(
        f"task.path = {path}: the name of a file of {split} problems must begin with "
        f"{source.file}; rename it, or give a directory of such files"
    )


def _file_in(folder: Path, source: Source) -> Path | None:
    if not folder.is_dir():
        raise ValueError(f"{VARIABLE} = {folder}: there is no such directory")
    found = sorted(path for path in folder.iterdir() if _is_of(path, source))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(f"{folder}: {names} all hold this split; give one of them as task.path")
    return found[0] if found else None


def _is_of(path: Path, source: Source) -> bool:
    rest = path.name.removeprefix(source.file)
    return rest != path.name and rest[:1] in ("-", ".") and rest.endswith(ENDINGS)


def _read_file(path: Path, key: str) -> Iterator[Record]:
    records = _parquet_records(path) if path.suffix == ".parquet" else read_records(path, key)
    return starmap(record_from_json, records)


def _parquet_records(path: Path) -> Iterator[tuple[str, Any]]:
    if importlib.util.find_spec("pyarrow") is None:
        raise ValueError(
            f"{path}: a parquet file is read by pyarrow: `pip install 'unmask[datasets]'`, or give "
            "JSON Lines"
        )
    parquet: Any = importlib.import_module("pyarrow.parquet")
    return _numbered(parquet.read_table(path).to_pylist(), str(path))


def _hub_records(dataset: Dataset, source: Source) -> Iterator[tuple[str, Any]]:
    datasets: Any = importlib.import_module("datasets")
    try:
        rows = datasets.load_dataset(dataset.hub, dataset.subset, split=source.hub_split)
    except Exception as error:  # of that package; a RuntimeError for a set that ships as a script
        raise ValueError(
            f"{dataset.hub} cannot be loaded from the hub ({error}): download its files and give "
            f"task.path, or set {VARIABLE} to a directory with {source.file}.jsonl"
        ) from error
    return _numbered(rows, f"{dataset.hub} {source.hub_split}")


def _numbered(rows: Iterable[Any], place: str) -> Iterator[tuple[str, Any]]:
    return ((f"{place}, row {number}", row) for number, row in enumerate(rows, start=1))
