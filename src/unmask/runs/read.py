"""Reads a run directory: configuration, environment, metrics and evaluation results.

The listing, the comparison and the report read runs here, also while a run is still writing and
after it was killed. Any file may be missing. A last line without a line end is still being written
and is ignored. A damaged file or line is left out and described in `RunFiles.problems`, which every
reader of a run shows. Training and grading must not go on from a damaged file: `read_objects` and
`read_lines` raise instead.

A run is a directory with `config.json` and `environment.json`; a model's directory has only the
first.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard, cast

from unmask.json_files import parse_object, read_object, read_objects
from unmask.runs.clock import Seconds

Record = Mapping[str, Any]

# Levels below the given directory that are searched for runs: `runs/quickstart/rl` is at level two.
DEPTH = 3
# Top-level keys of the configuration that tell the kind of a run, the first kind that has all of them.
KEYS_OF_KIND = {
    "rl": {"rollout"},
    "dpo": {"pairs", "loss"},
    "reward-model": {"pairs"},
    "sft": {"data"},
    "eval": {"split"},
}
# Bytes of a trajectory file's end that `read_tail` reads.
TAIL_BYTES = 4 * 2**20
# Sums and differences of larger numbers could overflow a float.
MAX_NUMBER = 1e300


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The contents of a run directory, except its trajectories and checkpoints.

    Attributes:
        path: the run directory.
        config: the resolved configuration; empty if there is none.
        environment: versions, machine, command line, start time; empty if there is none.
        samplings: evaluation results by name of the sampling, its speed under the key `speed`.
        metrics: lines of `metrics.jsonl`, steps strictly ascending.
        problems: damaged files and lines, one sentence each.
    """

    path: Path
    config: Record = field(default_factory=dict)
    environment: Record = field(default_factory=dict)
    samplings: Mapping[str, Record] = field(default_factory=dict)
    metrics: Sequence[Record] = ()
    problems: Sequence[str] = ()

    @property
    def kind(self) -> str | None:
        """One of `KEYS_OF_KIND`; None if the configuration has the keys of none of them."""
        return next((kind for kind, keys in KEYS_OF_KIND.items() if keys <= {*self.config}), None)

    @property
    def task(self) -> str:
        """Name of the task, or of the file of demonstrations or pairs; empty if there is neither."""
        task = subtable(self.config, "task")
        data = subtable(self.config, "data") or subtable(self.config, "pairs")
        return str(task.get("name") or Path(str(data.get("path") or "")).name)

    @property
    def start_time(self) -> datetime | None:
        """Time at which the run was started; None if it is not recorded."""
        try:
            return datetime.fromisoformat(str(self.environment.get("start_time")))
        except ValueError:
            return None

    @property
    def step(self) -> int:
        """Last optimizer step in the metrics; 0 before the first."""
        return self.metrics[-1]["step"] if self.metrics else 0

    @property
    def num_steps(self) -> int | None:
        """Optimizer steps of the whole run; None if the configuration has no such number."""
        steps = self.config.get("steps")
        return steps if isinstance(steps, int) else None

    @property
    def wall_s(self) -> float:
        """Seconds spent in timed stages, or in the samplings of an evaluation."""
        speeds = (subtable(found, "speed").get("wall_s") for found in self.samplings.values())
        return sum(times.wall for times in self.stages.values()) + sum(filter(is_number, speeds))

    @property
    def stages(self) -> dict[str, Seconds]:
        """Elapsed and CPU seconds of each stage over all steps."""
        found: dict[str, Seconds] = {}
        for row in self.metrics:
            for name, wall in row.items():
                stage = name.removesuffix("_wall_s")
                cpu = row.get(f"{stage}_cpu_s", 0.0)
                if stage != name and is_number(wall) and is_number(cpu):
                    found[stage] = found.get(stage, Seconds()) + Seconds(wall, cpu)
        return found

    @property
    def last_metrics(self) -> dict[str, float | None]:
        """Last value of every metric; None where it is NaN or infinite.

        Evaluation results have the names that training gives them (`eval_accuracy`, ...), so that
        the two can be compared; with several samplings, the sampling's name comes first.
        """
        last: dict[str, float | None] = {}
        for row in self.metrics:
            for name, value in row.items():
                if name != "step" and (value is None or type(value) in (int, float)):
                    last[name] = value if is_number(value) else None
        return last or _evaluation_metrics(self.samplings)


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a JSON value is a finite number of at most `MAX_NUMBER`; booleans are not."""
    return isinstance(value, int | float) and type(value) is not bool and abs(value) <= MAX_NUMBER


def is_interval(value: object) -> TypeGuard[Sequence[float]]:
    """Return whether a JSON value is a list of two numbers."""
    return isinstance(value, list) and len(value) == 2 and all(map(is_number, value))


def subtable(table: Record, name: str) -> Record:
    """Return the table under a name; an empty one if there is none."""
    value = table.get(name)
    return cast(Record, value) if isinstance(value, dict) else {}


def is_run(path: Path) -> bool:
    """Return whether a directory is a run's."""
    return (path / "config.json").is_file() and (path / "environment.json").is_file()


def check_run(path: Path) -> None:
    """Refuse a directory that is not a run's.

    Raises:
        ValueError: naming the directory and the command that lists runs.
    """
    if not is_run(path):
        raise ValueError(
            f"{path}: is not a run (config.json and environment.json are missing); "
            "`unmask runs DIR` lists the runs in DIR"
        )


def find_runs(directory: Path) -> list[RunFiles]:
    """Read every run in a directory, oldest first; runs inside a run are not searched for.

    Raises:
        ValueError: the directory is missing or holds no run.
        OSError: a file cannot be read.
    """
    if not directory.is_dir():
        raise ValueError(f"{directory}: no such directory; `unmask runs DIR` lists the runs in DIR")
    found = [read_run(path) for path in _run_directories(directory, DEPTH)]
    if not found:
        raise ValueError(
            f"{directory}: holds no run (a directory with config.json and environment.json); "
            "`unmask quickstart` makes some"
        )
    return sorted(found, key=lambda run: (str(run.environment.get("start_time")), str(run.path)))


def read_run(directory: Path) -> RunFiles:
    """Read a run directory; files that are missing count as empty.

    Raises:
        OSError: a file exists but cannot be read.
    """
    problems: list[str] = []
    read = partial(_read_table, problems)
    summaries, speeds = (
        subtable(read(directory / name), "samplings") for name in ("summary.json", "speed.json")
    )
    return RunFiles(
        path=directory,
        config=read(directory / "config.json"),
        environment=read(directory / "environment.json"),
        samplings={
            name: {**subtable(summaries, name), "speed": subtable(speeds, name)}
            for name in summaries
        },
        metrics=_read_metrics(problems, directory / "metrics.jsonl"),
        problems=problems,
    )


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the finished lines of a JSON Lines file of steps; none if the file is missing.

    Raises:
        ValueError: a finished line is not a JSON object with a `step`; names file and line.
    """
    for number, record in enumerate(read_objects(path), start=1):
        if not isinstance(record.get("step"), int):
            raise ValueError(f"{path}, line {number}: has no step")
        yield record


def read_tail(path: Path) -> list[Record]:
    """Return the records of the last `TAIL_BYTES` of a JSON Lines file, oldest first."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        start = max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES)
        file.seek(start)
        lines = file.read(TAIL_BYTES).split(b"\n")
    # Unless reading began at the start of the file, the first line is the end of a longer one.
    return list(_records(lines[1:] if start else lines))


def read_spread(path: Path, count: int) -> list[Record]:
    """Return about `count` records from places evenly spread over a JSON Lines file."""
    if not path.exists():
        return []
    lines: dict[int, bytes] = {}
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        for number in range(count):
            offset = size * number // count
            file.seek(max(0, offset - 1))
            if offset:
                file.readline()  # the rest of a line that began before the offset
            place = file.tell()
            if place not in lines:
                lines[place] = file.readline()
    return list(_records(lines.values()))


def _run_directories(directory: Path, depth: int) -> Iterator[Path]:
    if is_run(directory):
        yield directory
    elif depth:
        with os.scandir(directory) as entries:
            names = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
        for name in sorted(names):
            yield from _run_directories(directory / name, depth - 1)


def _read_table(problems: list[str], path: Path) -> Record:
    if not path.exists():
        return {}
    try:
        return read_object(path)
    except ValueError as error:
        problems.append(f"{error}.")
        return {}


def _read_metrics(problems: list[str], path: Path) -> Sequence[Record]:
    lines = [line for line in _finished_lines(path) if line.strip()]
    found = [record for record in _records(lines) if _is_step(record.get("step"))]
    rows: list[Record] = []
    for row in found:
        # A resumed run writes some steps again: the later line replaces the earlier ones.
        while rows and rows[-1]["step"] >= row["step"]:
            rows.pop()
        rows.append(row)
    if lost := len(lines) - len(found):
        problems.append(f"{path}: {lost:,} damaged line{'s'[: lost != 1]} left out.")
    return rows


def _finished_lines(path: Path) -> Iterator[bytes]:
    if path.is_file():
        with path.open("rb") as file:
            yield from (line for line in file if line.endswith(b"\n"))


def _records(lines: Iterable[bytes]) -> Iterator[Record]:
    for line in lines:
        try:
            yield parse_object(line, "")
        except ValueError:
            continue


def _is_step(value: object) -> bool:
    return isinstance(value, int) and is_number(value)


def _evaluation_metrics(samplings: Mapping[str, Record]) -> dict[str, float | None]:
    metrics: dict[str, float | None] = {}
    for sampling, result in samplings.items():
        prefix = f"{sampling} eval_" if len(samplings) > 1 else "eval_"
        ci95 = result.get("ci95")
        low, high = ci95 if is_interval(ci95) else (None, None)
        found = {"accuracy": result.get("accuracy"), "accuracy_low": low, "accuracy_high": high}
        found |= {**result, **subtable(result, "speed")}
        metrics |= {
            f"{prefix}{name}": value
            for name, value in found.items()
            if is_number(value) and name not in ("n", "samples")
        }
    return metrics
