"""Records of files and of the hub: JSON, JSON Lines (also compressed), Parquet, and `datasets`.

Parquet and the hub need the optional `datasets` package, which brings pyarrow. Parquet is read in batches of
rows, so a file does not have to fit into memory twice. Image features are given as they are stored, `{"bytes": ...,
"path": ...}`, and never decoded.
"""

import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unmask.json_files import read_records

# Rows of a batch; of a table with images, which may have megabytes in a row, fewer.
ROWS, IMAGE_ROWS = 1024, 32
# Names of files that are read.
ENDINGS = (".jsonl", ".json", ".jsonl.gz", ".json.gz", ".parquet")


def read_file(path: Path, key: str) -> Iterator[tuple[str, Any]]:
    """Yield `(place, record)` of a user's file; the place names key, file and line, item or row.

    Args:
        path: the file; one that does not end in `.parquet` is JSON or JSON Lines.
        key: the config key that names it.

    Raises:
        ValueError: the file cannot be read.
    """
    return _parquet_records(path, key) if path.suffix == ".parquet" else read_records(path, key)


def has_datasets() -> bool:
    """Return whether the `datasets` package is installed."""
    return importlib.util.find_spec("datasets") is not None


def read_hub(
    name: str, subset: str | None, split: str, skip: int | None = None
) -> Iterator[tuple[str, Any]]:
    """Return an iterator over `(place, record)` of a data set on the hub; `has_datasets` must hold.

    Args:
        name: hub id.
        subset: name of its configuration, where there are several.
        split: name of the split.
        skip: rows that are left out at the start of a stream; without it the whole set is loaded to the disk.

    Raises:
        ValueError: the package cannot load it, for want of a network or of the data set.
    """
    datasets: Any = importlib.import_module("datasets")
    try:
        rows = datasets.load_dataset(name, subset, split=split, streaming=skip is not None)
        rows = rows.skip(skip) if skip else rows
        if skip is None:  # tables of Arrow hold images as they are stored
            tables = rows.with_format("arrow").iter(IMAGE_ROWS)
            rows = (row for table in tables for row in table.to_pylist())
        else:
            rows = rows.decode(False)
    except Exception as error:  # of that package; a RuntimeError for a set that ships as a script
        raise _unavailable(name, error) from error
    return _hub_rows(rows, name, split, skip or 0)


def _hub_rows(rows: Any, name: str, split: str, skip: int) -> Iterator[tuple[str, Any]]:
    try:
        for number, row in enumerate(rows, start=skip + 1):
            yield f"{name} {split}, row {number}", row
    except Exception as error:  # a stream reads the network here
        raise _unavailable(name, error) from error


def _unavailable(name: str, error: Exception) -> ValueError:
    return ValueError(f"{name} cannot be loaded from the hub ({' '.join(str(error).split())})")


def _parquet_records(path: Path, key: str) -> Iterator[tuple[str, Any]]:
    place = f"{key} = {path}"
    if not path.is_file():
        raise ValueError(f"{place}: no such file")
    if importlib.util.find_spec("pyarrow") is None:
        raise ValueError(
            f"{place}: a parquet file is read by pyarrow: `pip install 'unmask[data]'`, or give "
            "JSON Lines"
        )
    parquet: Any = importlib.import_module("pyarrow.parquet")
    try:
        with parquet.ParquetFile(path) as file:
            size = IMAGE_ROWS if "binary" in str(file.schema_arrow) else ROWS
            rows = (row for batch in file.iter_batches(size) for row in batch.to_pylist())
            for number, row in enumerate(rows, start=1):
                yield f"{place}, row {number}", row
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise ValueError(f"{place}: cannot be read: {' '.join(str(error).split())}") from error
