"""A run directory as the report reads it: whatever is there, also in the middle of a run.

A report is drawn while the run appends to its files and after it was killed, so every file may be
missing and the last line of a JSON Lines file may be half a line. What cannot be read is counted,
never guessed. Trajectories can fill gigabytes: only the end of their file and a few places along
it are read, so drawing costs the same at any length of the run.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from unmask.runs.history import kind_of_config
from unmask.viewer.numbers import is_number

Record = Mapping[str, Any]

TAIL_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class RunFiles:
    """What the small files of a run say.

    Attributes:
        path: the run directory.
        config: resolved configuration; empty if there is none.
        environment: versions, machine, command line; empty if there is none.
        samplings: what an evaluation found, by the name of the sampling, what was measured beside it
            under `speed`; empty if there is none.
        metrics: lines of `metrics.jsonl`, steps ascending.
        num_unreadable: lines of `metrics.jsonl` before the last that are no record.
    """

    path: Path
    config: Record = field(default_factory=dict)
    environment: Record = field(default_factory=dict)
    samplings: Mapping[str, Record] = field(default_factory=dict)
    metrics: tuple[Record, ...] = ()
    num_unreadable: int = 0

    @property
    def kind(self) -> str:
        """What the run is, by the sections its configuration has: `rl`, `sft`, `eval` or `run`."""
        return kind_of_config(self.config) or "run"

    @property
    def step(self) -> int:
        """The last optimizer step that left numbers; 0 before the first."""
        return self.metrics[-1]["step"] if self.metrics else 0

    @property
    def num_steps(self) -> int | None:
        """How many optimizer steps the run shall take; None if the configuration does not say."""
        steps = self.config.get("steps")
        return steps if isinstance(steps, int) else None


def read_run(directory: Path) -> RunFiles:
    """Read the configuration, the environment, the summary and the metrics of a run.

    Raises:
        OSError: a file is there but cannot be read.
    """
    metrics, num_unreadable = _read_metrics(directory / "metrics.jsonl")
    return RunFiles(
        path=directory,
        config=_read_object(directory / "config.json"),
        environment=_read_object(directory / "environment.json"),
        samplings=_read_samplings(directory),
        metrics=metrics,
        num_unreadable=num_unreadable,
    )


def read_tail(path: Path, is_wanted: Callable[[Record], bool]) -> list[Record]:
    """Return the wanted records of the last `TAIL_BYTES` of a JSON Lines file, oldest first."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        start = max(0, _size(file) - TAIL_BYTES)
        file.seek(start)
        lines = file.read(TAIL_BYTES).split(b"\n")
    whole = lines[1:] if start else lines
    return list(filter(is_wanted, _records(whole)))


def read_spread(path: Path, count: int, is_wanted: Callable[[Record], bool]) -> list[Record]:
    """Return about `count` wanted records from places evenly spread over a JSON Lines file."""
    if not path.exists():
        return []
    lines: dict[int, bytes] = {}
    with path.open("rb") as file:
        size = _size(file)
        for number in range(count):
            offset = size * number // count
            file.seek(max(0, offset - 1))
            if offset:
                file.readline()  # the rest of a line that began before the offset
            place = file.tell()
            if place not in lines:
                lines[place] = file.readline()
    return list(filter(is_wanted, _records(lines.values())))


def _read_samplings(directory: Path) -> dict[str, Record]:
    summaries, speeds = (
        _section(_read_object(directory / f"{name}.json"), "samplings")
        for name in ("summary", "speed")
    )
    return {
        name: {**_section(summaries, name), "speed": _section(speeds, name)} for name in summaries
    }


def _section(table: Record, name: str) -> Record:
    value = table.get(name)
    return cast(Record, value) if isinstance(value, dict) else {}


def _read_object(path: Path) -> Record:
    """Read a file that holds one JSON object; these are written at once, so whole or absent."""
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return {}
    return cast(Record, value) if isinstance(value, dict) else {}


def _read_metrics(path: Path) -> tuple[tuple[Record, ...], int]:
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    found = [record for record in _records(lines) if _is_step(record.get("step"))]
    rows: list[Record] = []
    for row in found:
        # A resumed run writes some steps again: what it wrote last is what happened.
        while rows and rows[-1]["step"] >= row["step"]:
            rows.pop()
        rows.append(row)
    # The last line may be half a line: the run is writing it.
    return tuple(rows), sum(bool(line.strip()) for line in lines[:-1]) - len(found)


def _records(lines: Iterable[bytes]) -> Iterable[Record]:
    for line in lines:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield cast(Record, value)


def _is_step(value: object) -> bool:
    return isinstance(value, int) and is_number(value)


def _size(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)
