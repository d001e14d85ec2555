"""Sinks of a run's metrics: JSON Lines always, TensorBoard and Weights & Biases on request.

`metrics.jsonl` is the record of the run: one line per step, steps rising, readable without any package;
the report, `unmask runs` and a resumed run read it. The other two are views for people. `docs/metrics.md`
defines every metric.

A resumed run starts at its checkpoint's step, so `cut_back` removes the later lines: it truncates the
files at the first line past that step. A truncation is one system call that leaves no half file, copies
nothing (so it works on a full disk) and keeps the inode that a reader follows; a rewrite guarantees none
of the three. TensorBoard hides the later steps itself: its file is opened at the first write, whose step is
the `purge_step`. W&B keeps them: its metrics are plotted over our `step`, and the repeated steps are drawn
again.
"""

import importlib
import math
import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from unmask.configs.eval import EvalConfig
from unmask.configs.load import dump
from unmask.configs.training import TrainingConfig
from unmask.runs.directory import METRICS, TRAJECTORIES, RunDirectory
from unmask.runs.files import write_text
from unmask.runs.read import read_lines

CUT = (METRICS, TRAJECTORIES)
WANDB_ID = "wandb_id.txt"

Numbers = Mapping[str, float]


# Further places for the metrics: `write(step, numbers)` and `close()`.
Sink: TypeAlias = "_TensorBoard | _Wandb"


class Metrics:
    """The metrics of a run: `with open_metrics(run, config) as metrics: metrics.log(step=1, ...)`."""

    def __init__(self, run: RunDirectory, sinks: tuple[Sink, ...] = ()) -> None:
        """Continue after the last step of the file.

        Args:
            run: the run directory that holds `metrics.jsonl`.
            sinks: further places for the same metrics.
        """
        self._run, self._sinks = run, sinks
        self._last = max((line["step"] for line in read_lines(run.path / CUT[0])), default=0)

    def __enter__(self) -> "Metrics":
        """Return this."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the sinks; `metrics.jsonl` is complete after every step."""
        for sink in self._sinks:
            sink.close()

    def log(self, *, step: int, **numbers: float) -> None:
        """Write the metrics of a step to all sinks.

        Args:
            step: higher than every step before; a resumed run calls `cut_back` first.
            numbers: metrics by name; NaN and the infinities are `null` in `metrics.jsonl`.
        """
        assert step > self._last, f"step {step} after step {self._last}: one line per step, rising"
        self._run.log(step=step, **numbers)
        for sink in self._sinks:
            sink.write(step, numbers)
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
    """Return the metrics of a run with the sinks of `run.tensorboard` and `run.wandb`.

    Raises:
        ValueError: a package is missing, or W&B refuses; names the key and what to do.
    """
    sinks: list[Sink] = []
    if config.run.tensorboard:
        sinks.append(_TensorBoard(run.path / "tensorboard"))
    if config.run.wandb is not None:
        sinks.append(_Wandb(run, config.run.wandb, dump(config)))
    return Metrics(run, tuple(sinks))


def check_metrics(config: TrainingConfig) -> None:
    """Refuse a sink whose package is missing; call it before the run directory is made.

    Raises:
        ValueError: naming the key and what to do.
    """
    if config.run.tensorboard:
        _require("torch.utils.tensorboard", "run.tensorboard")
    if config.run.wandb is not None:
        _require("wandb", "run.wandb")


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


def _require(package: str, key: str) -> Any:
    """Import the package behind a config key.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        extra = key.removeprefix("run.")
        raise ValueError(
            f"{key}: needs the package {extra!r}, which cannot be imported ({error}); "
            f"`unmask doctor` prints the command that installs the extra, or leave {key} out"
        ) from None


class _TensorBoard:
    """Event files for `tensorboard --logdir`, which hides what an earlier process wrote from the first step on."""

    def __init__(self, directory: Path) -> None:
        package = _require("torch.utils.tensorboard", "run.tensorboard")
        self._open = partial(package.SummaryWriter, str(directory))
        self._writer: Any = None

    def write(self, step: int, numbers: Numbers) -> None:
        if self._writer is None:
            self._writer = self._open(purge_step=step)
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _Wandb:
    """A W&B run of the project; the same one when the run is resumed."""

    def __init__(self, run: RunDirectory, project: str, config: dict[str, Any]) -> None:
        wandb = _require("wandb", "run.wandb")
        place = run.path / WANDB_ID
        is_known = place.is_file()
        try:
            self._run = wandb.init(
                project=project,
                name=run.path.name,
                id=place.read_text().strip() if is_known else None,
                resume="allow",
                dir=str(run.path),
                config=config,
                settings=wandb.Settings(console="off", disable_code=True, disable_git=True),
            )
        except wandb.errors.Error as error:
            raise ValueError(
                f"run.wandb = {project}: W&B refused: {str(error).splitlines()[0]}; "
                "run `wandb login`, or set WANDB_MODE=offline"
            ) from None
        if not is_known:
            write_text(place, f"{self._run.id}\n")
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, numbers: Numbers) -> None:
        finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
        self._run.log({"step": step, **finite})

    def close(self) -> None:
        self._run.finish()
