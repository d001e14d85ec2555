"""Local copies of public data sets: the records of a split, each read by the task's own reader, as JSON Lines.

A copy has the published records unchanged, one per line, under the beginning of a name that `task.path` and
`$UNMASK_DATA` find. The bytes of images are data URLs in it; paths of images stay paths. Its SHA-256 is that of these
lines, so that copies made of Parquet, JSON and the hub are compared. Whether a grader can grade a problem is found
when the task is built, not here.
"""

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask.tasks.dataset import Dataset
from unmask.tasks.record import Record, UnfitProblemError
from unmask.tasks.sources import file_in, file_records, is_of, read_split
from unmask.tasks.template import filled
from unmask.types import Image, Split

FROM = "--from"


@dataclass(frozen=True, slots=True)
class Copy:
    """The copy of a split.

    Attributes:
        split: its split.
        file: the name of its file.
        text: its lines.
        num_problems: how many records are problems that can be read.
        left_out: names and reasons of records that no grader can grade; they are among the lines.
        num_others: records of other tasks, which are not among the lines.
        first_prompt: the first problem in the data set's template.
        images: of the first problem.
    """

    split: Split
    file: str
    text: str
    num_problems: int
    left_out: tuple[str, ...]
    num_others: int
    first_prompt: str
    images: tuple[Image, ...] = ()

    @property
    def sha256(self) -> str:
        """The SHA-256 of the file, in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def copies(dataset: Dataset, path: Path | None, split: Split | None) -> Iterator[Copy]:
    """Yield the copies of a data set's splits.

    Args:
        dataset: the data set.
        path: a file of one split, or a directory of files; None reads `$UNMASK_DATA`, then the hub.
        split: the only split that is read; by default that of the file's name, else all there are.

    Raises:
        ValueError: a split does not exist or cannot be found, or a record cannot be read; names file and line.
    """
    if split is not None and split not in dataset.sources:
        raise ValueError(f"--split {split}: published are {' and '.join(dataset.sources)}")
    if path is not None and path.is_file():
        split = split or _split_of(dataset, path)
        yield _copy(dataset, split, file_records(path, FROM))
        return
    if path is not None and not path.is_dir():
        raise ValueError(f"{FROM} {path}: there is no such file or directory")
    wanted: list[Split] = [*dataset.sources] if split is None else [split]
    if path is not None:
        found: list[Split] = [name for name in wanted if file_in(path, dataset.sources[name])]
        if not found:
            files = " or ".join(f"{dataset.sources[name].file}.jsonl" for name in wanted)
            raise ValueError(f"{FROM} {path}: it has no {files}; give the file itself")
        wanted = found
    for name in wanted:
        yield _copy(dataset, name, read_split(dataset, name, path))


def _split_of(dataset: Dataset, path: Path) -> Split:
    """Return the split of a file by its name, or the only one."""
    found: list[Split] = [split for split, source in dataset.sources.items() if is_of(path, source)]
    if len(found or dataset.sources) == 1:
        return next(iter(found or dataset.sources))
    raise ValueError(
        f"{FROM} {path}: the name does not begin with that of a split; add --split "
        f"{' or --split '.join(dataset.sources)}"
    )


def _copy(dataset: Dataset, split: Split, records: Iterable[Record]) -> Copy:
    lines, left_out = list[str](), list[str]()
    num_others, first, images = 0, "", tuple[Image, ...]()
    for record in records:
        try:
            problem = dataset.problem(record)
        except UnfitProblemError as error:
            left_out.append(f"{record.name}: {error}")
        else:
            if problem is None:
                num_others += 1
                continue
            if not first:
                images = problem.images
                first = filled(dataset.template, problem.question, bool(images))
        lines.append(_line(record))
    if not first:
        raise ValueError(f"{dataset.hub}: no {split} problem was found, in {num_others} records")
    file, num_problems = f"{dataset.sources[split].file}.jsonl", len(lines) - len(left_out)
    text = "".join(f"{line}\n" for line in lines)
    return Copy(split, file, text, num_problems, tuple(left_out), num_others, first, images)


def _line(record: Record) -> str:
    try:
        values = {name: _plain(value) for name, value in record.values.items()}
        line = json.dumps(values, ensure_ascii=False, allow_nan=False)
        line.encode()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{record.place}: cannot be written as JSON: {error}") from error
    return line


def _plain(value: Any) -> Any:
    """Return a value with each image feature that holds bytes, and each list of them, as data URLs."""
    match value:
        case {"bytes": bytes(data)}:
            return f"data:image/any;base64,{b64encode(data).decode()}"
        case list():
            return [_plain(one) for one in value]  # pyright: ignore[reportUnknownVariableType]
        case _:
            return value
