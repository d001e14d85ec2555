"""Runs read back: what a directory says about a run that is over, or still going on.

A run is recognised by `config.json` and `environment.json` together; a model's directory has the
first one only. A line that does not end yet is being written (or its writer was killed), so it is
not there; a broken line anywhere else is a broken file, and said so.

An evaluation writes `summary.json` and `speed.json` where a training run writes metrics. Its numbers are read
under the names that training gives them (`eval_accuracy` and so on), so that the two compare.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from unmask.json_files import read_object, read_objects

# How deep below the given directory runs are looked for: `runs/quickstart/rl` is two.
DEPTH = 3
KEY_OF_KIND = {"rl": "rollout", "sft": "noise", "eval": "split"}


@dataclass(frozen=True, slots=True)
class PastRun:
    """What a run directory says.

    Attributes:
        path: the directory.
        config: the resolved configuration.
        environment: versions, machine, command line, start time.
        numbers: the last value of every metric; None where the last one was not finite.
        steps: steps done; 0 for an evaluation.
        wall_s: seconds spent in the stages that are timed.
    """

    path: Path
    config: dict[str, Any]
    environment: dict[str, Any]
    numbers: dict[str, float | None]
    steps: int
    wall_s: float

    @property
    def kind(self) -> str:
        """`sft`, `rl` or `eval`; `?` where the configuration does not say."""
        return kind_of_config(self.config) or "?"

    @property
    def task(self) -> str:
        """The task's name, or the file of demonstrations where there is no task."""
        task, data = self.config.get("task") or {}, self.config.get("data") or {}
        return task.get("name") or Path(data.get("path") or "-").stem

    @property
    def start_time(self) -> datetime:
        """When the run was started."""
        return datetime.fromisoformat(self.environment["start_time"])


def kind_of_config(config: Mapping[str, Any]) -> str | None:
    """Return `sft`, `rl` or `eval`, by a top-level key that only this kind has; None where none is there."""
    return next((kind for kind, key in KEY_OF_KIND.items() if key in config), None)


def is_run(path: Path) -> bool:
    """Say whether a directory is a run's."""
    return (path / "config.json").is_file() and (path / "environment.json").is_file()


def find_runs(directory: Path) -> list[PastRun]:
    """Read every run in a directory, oldest first; runs do not hold runs.

    Raises:
        ValueError: the directory is missing or holds no run, or a run's file is broken.
    """
    if not directory.is_dir():
        raise ValueError(f"{directory}: no such directory; `unmask runs DIR` lists the runs in DIR")
    found = [read_run(path) for path in _run_directories(directory, DEPTH)]
    if not found:
        raise ValueError(
            f"{directory}: holds no run (a directory with config.json and environment.json); "
            "`unmask quickstart` makes some"
        )
    return sorted(found, key=lambda run: (run.start_time, str(run.path)))


def read_run(path: Path) -> PastRun:
    """Read a run.

    Raises:
        ValueError: the directory is not a run's, or a file in it is broken.
    """
    if not is_run(path):
        raise ValueError(
            f"{path}: is not a run: config.json and environment.json are not both there"
        )
    environment = read_object(path / "environment.json")
    numbers: dict[str, float | None] = {}
    wall_s, steps = 0.0, 0
    for line in read_lines(path / "metrics.jsonl"):
        steps = line["step"]
        numbers |= line
        wall_s += sum(value or 0.0 for name, value in line.items() if name.endswith("_wall_s"))
    numbers.pop("step", None)
    if (path / "summary.json").is_file() and not numbers:
        summaries = read_object(path / "summary.json").get("samplings", {})
        speeds = read_object(path / "speed.json").get("samplings", {})
        numbers = _numbers_of_samplings(summaries, speeds)
        wall_s = sum(speed["wall_s"] for speed in speeds.values())
    return PastRun(path, read_object(path / "config.json"), environment, numbers, steps, wall_s)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the finished lines of a JSON Lines file of steps; a file that is not there has none.

    Raises:
        ValueError: a finished line is not a JSON object with a `step`; names file and line.
    """
    for number, record in enumerate(read_objects(path), start=1):
        if not isinstance(record.get("step"), int):
            raise ValueError(f"{path}, line {number}: has no step")
        yield record


def _run_directories(directory: Path, depth: int) -> Iterator[Path]:
    if is_run(directory):
        yield directory
    elif depth:
        with os.scandir(directory) as entries:
            names = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
        for name in sorted(names):
            yield from _run_directories(directory / name, depth - 1)


def _numbers_of_samplings(
    summaries: Mapping[str, Mapping[str, Any]], speeds: Mapping[str, Mapping[str, Any]]
) -> dict[str, float | None]:
    """Return the numbers of an evaluation; where there are several samplings, each under its name."""
    numbers: dict[str, float | None] = {}
    for sampling, summary in summaries.items():
        prefix = f"{sampling} eval_" if len(summaries) > 1 else "eval_"
        low, high = summary["ci95"]
        found = {"accuracy": summary["accuracy"], "accuracy_low": low, "accuracy_high": high}
        for name, value in (*summary.items(), *speeds[sampling].items()):
            if isinstance(value, int | float) and name not in ("n", "samples"):
                found[name] = value
        numbers |= {f"{prefix}{name}": value for name, value in found.items()}
    return numbers
