"""Where a run's numbers go: JSON Lines always, TensorBoard and Weights & Biases when asked for.

`metrics.jsonl` is the run's own memory: one line per step, steps rising, readable without any
package; the report, `unmask runs` and a resumed run read it. The other two are views for people and
are written beside it, never instead of it. What each name means stands in `docs/metrics.md`.

A run that is resumed goes back to its checkpoint's step, so what was written after it has to go, or
the curves would hold steps that the weights have forgotten. `cut_back` cuts the files at the first
line past that step. Cutting off an end is one system call that leaves no half file, copies nothing
(so it also works on a disk that is full) and keeps the file that a reader follows; a rewrite could
promise none of the three. TensorBoard hides the steps itself when told where it starts again
(`purge_step`). W&B keeps them: its numbers stand over our own `step`, where the same steps are then
drawn again.
"""

import importlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from unmask.configs.eval import EvalConfig
from unmask.configs.load import dump
from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig
from unmask.runs.directory import METRICS, TRAJECTORIES, RunDirectory
from unmask.runs.files import write_text
from unmask.runs.read import read_lines

CUT = (METRICS, TRAJECTORIES)
WANDB_ID = "wandb_id.txt"

Numbers = Mapping[str, float]


class Sink(Protocol):
    """One more place for the numbers."""

    def write(self, step: int, numbers: Numbers) -> None:
        """Take the numbers of a step."""
        ...

    def cut_back(self, step: int) -> None:
        """Forget what came after a step, as far as the place allows."""
        ...

    def close(self) -> None:
        """Bring everything to where it belongs."""
        ...


class Metrics:
    """The numbers of a run: `with open_metrics(run, config) as metrics: metrics.log(step=1, ...)`."""

    def __init__(self, run: RunDirectory, sinks: tuple[Sink, ...] = ()) -> None:
        """Go on after the last step that is there.

        Args:
            run: whose `metrics.jsonl` grows.
            sinks: where the same numbers go as well.
        """
        self._run, self._sinks = run, sinks
        self._last = max((line["step"] for line in read_lines(run.path / CUT[0])), default=0)

    def __enter__(self) -> "Metrics":
        """Return this."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def log(self, *, step: int, **numbers: float) -> None:
        """Write the numbers of a step everywhere.

        Args:
            step: higher than every step before; a resumed run calls `cut_back` first.
            numbers: by name; NaN and the infinities stand as `null` in `metrics.jsonl`.
        """
        assert step > self._last, f"step {step} after step {self._last}: one line per step, rising"
        self._run.log(step=step, **numbers)
        for sink in self._sinks:
            sink.write(step, numbers)
        self._last = step

    def cut_back(self, step: int) -> None:
        """Drop every line after a step from `metrics.jsonl` and `trajectories.jsonl`, and unfinished ones.

        Args:
            step: the checkpoint's; 0 drops everything.

        Raises:
            ValueError: a finished line is not JSON, or a step before is missing or comes twice.
            OSError: the files cannot be written.
        """
        _check_steps(self._run.path / METRICS, step)
        for name in CUT:
            _cut(self._run.path / name, step)
        for sink in self._sinks:
            sink.cut_back(step)
        self._last = min(self._last, step)

    def close(self) -> None:
        """Finish the sinks; `metrics.jsonl` is whole after every step anyway."""
        for sink in self._sinks:
            sink.close()


def open_metrics(run: RunDirectory, config: SFTConfig | RLConfig | EvalConfig) -> Metrics:
    """Open what the config asks for: `run.tensorboard`, `run.wandb`, and always `metrics.jsonl`.

    Raises:
        ValueError: a package is missing, or W&B refuses; names the key and the way out.
    """
    sinks: list[Sink] = []
    if config.run.tensorboard:
        sinks.append(_TensorBoard(run.path / "tensorboard"))
    if config.run.wandb is not None:
        sinks.append(_Wandb(run, config.run.wandb, dump(config)))
    return Metrics(run, tuple(sinks))


def check_metrics(config: SFTConfig | RLConfig) -> None:
    """Refuse a sink whose package is missing; call it before the run directory is made.

    Raises:
        ValueError: naming the key and the way out.
    """
    if config.run.tensorboard:
        _require("torch.utils.tensorboard", "run.tensorboard")
    if config.run.wandb is not None:
        _require("wandb", "run.wandb")


def _check_steps(path: Path, step: int) -> None:
    """Refuse a file of numbers that has not one line for every step up to `step`.

    Raises:
        ValueError: naming the line.
    """
    found = (line["step"] for line in read_lines(path))
    for number in range(1, step + 1):
        stated = next(found, None)
        if stated != number:
            here = "the file ends" if stated is None else f"step {stated} stands"
            raise ValueError(
                f"{path}, line {number}: {here} where step {number} must stand: lines before the "
                f"checkpoint of step {step} are missing or come twice; restore the file, or start "
                "another run from the checkpoint's model (model.path=..., run.dir=...)"
            )


def _cut(path: Path, step: int) -> None:
    """Cut a file of rising steps before its first line that is past `step` or does not end."""
    if not path.is_file():
        return
    kept = 0
    with path.open("rb") as file:
        # The lines are counted in bytes here, and read as JSON there: the two walk side by side.
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
            f"`unmask doctor` says how to install the extra, or leave {key} out"
        ) from None


class _TensorBoard:
    """Event files for `tensorboard --logdir`; opened at the first number, when a cut is known."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._writer_class = _require("torch.utils.tensorboard", "run.tensorboard").SummaryWriter
        self._writer: Any = None
        self._purge_step: int | None = None

    def write(self, step: int, numbers: Numbers) -> None:
        if self._writer is None:
            self._writer = self._writer_class(str(self._directory), purge_step=self._purge_step)
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def cut_back(self, step: int) -> None:
        self.close()
        self._purge_step = step + 1

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None


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

    def cut_back(self, step: int) -> None:
        """Nothing: W&B has no way to forget, and draws the new numbers over the old."""

    def close(self) -> None:
        self._run.finish()
