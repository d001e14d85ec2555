"""A run's metrics: JSON Lines always, and trackers on request.

`metrics.jsonl` is the record of the run: one line per step, steps rising, readable without any package;
the report, `unmask runs` and a resumed run read it. Trackers (`runs/trackers.py`) are views for people.
`docs/metrics.md` defines every metric.

A resumed run starts at its checkpoint's step, so `cut_back` removes the later lines: it truncates the
files at the first line past that step. A truncation is one system call that leaves no half file, copies
nothing (so it works on a full disk) and keeps the inode that a reader follows; a rewrite guarantees none
of the three.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unmask.configs.eval import EvalConfig
from unmask.configs.load import dump
from unmask.configs.training import TrainingConfig
from unmask.runs.directory import METRICS, TRAJECTORIES, RunDirectory
from unmask.runs.read import read_lines
from unmask.runs.trackers import Tracker, open_trackers

CUT = (METRICS, TRAJECTORIES)


class Metrics:
    """The metrics of a run: `with open_metrics(run, config) as metrics: metrics.log(step=1, ...)`."""

    def __init__(self, run: RunDirectory, trackers: Sequence[Tracker] = ()) -> None:
        """Continue after the last step of the file.

        Args:
            run: the run directory that holds `metrics.jsonl`.
            trackers: further places for the same metrics.
        """
        self._run, self._trackers = run, trackers
        self._last = max((line["step"] for line in read_lines(run.path / CUT[0])), default=0)

    def __enter__(self) -> "Metrics":
        """Return this."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the trackers; `metrics.jsonl` is complete after every step."""
        for tracker in self._trackers:
            tracker.close()

    def log(self, *, step: int, **numbers: float) -> None:
        """Write the metrics of a step to the file and all trackers.

        Args:
            step: higher than every step before; a resumed run calls `cut_back` first.
            numbers: metrics by name; NaN and the infinities are `null` in `metrics.jsonl`.
        """
        assert step > self._last, f"step {step} after step {self._last}: one line per step, rising"
        self._run.log(step=step, **numbers)
        for tracker in self._trackers:
            tracker.write(step, numbers)
        self._last = step

    def record(self, trajectories: Iterable[Mapping[str, Any]]) -> None:
        """Append records of trajectories to `trajectories.jsonl`."""
        self._run.record(trajectories)

    def cut_back(self, step: int) -> None:
        """Remove lines after a step, and unfinished lines, from `metrics.jsonl` and `trajectories.jsonl`.

        Args:
            step: the checkpoint's step; 0 removes all lines.

        Raises:
            ValueError: a finished line is not JSON, or a step before is missing or occurs twice.
            OSError: the files cannot be written.
        """
        _check_steps(self._run.path / METRICS, step)
        for name in CUT:
            _cut(self._run.path / name, step)
        self._last = min(self._last, step)


def open_metrics(run: RunDirectory, config: TrainingConfig | EvalConfig) -> Metrics:
    """Return the metrics of a run with the trackers of `[run]`.

    Raises:
        ValueError: a package is missing, or a tracker refuses; names the key and what to do.
    """
    return Metrics(run, open_trackers(run.path, config.run, dump(config)))


def _check_steps(path: Path, step: int) -> None:
    """Refuse a metrics file without exactly one line for every step up to `step`.

    Raises:
        ValueError: naming the line.
    """
    found = (line["step"] for line in read_lines(path))
    for number in range(1, step + 1):
        stated = next(found, None)
        if stated != number:
            here = "the file ends" if stated is None else f"found step {stated}"
            raise ValueError(
                f"{path}, line {number}: {here}, expected step {number}: lines before the "
                f"checkpoint of step {step} are missing or occur twice; restore the file, or start "
                "another run from the checkpoint's model (model.path=..., run.dir=...)"
            )


def _cut(path: Path, step: int) -> None:
    """Truncate a file of rising steps before its first line that is past `step` or has no line break."""
    if not path.is_file():
        return
    kept = 0
    with path.open("rb") as file:
        # Two readers of the same lines: one counts bytes, the other parses JSON.
        for line, record in zip(file, read_lines(path), strict=False):
            if record["step"] > step:
                break
            kept += len(line)
    if kept == path.stat().st_size:
        return
    with path.open("r+b") as file:
        file.truncate(kept)
        os.fsync(file.fileno())
