"""Trackers of a run's metrics: TensorBoard, Weights & Biases, trackio, swanlab and MLflow.

Each groups metrics by what stands before a slash, so that a metric has its section in front there
(`sectioned`); `metrics.jsonl` keeps the plain names. TensorBoard alone takes numbers that are not finite; the
others get the rest of a step.

A resumed run continues the tracker's run: its name there is a file in the run directory. TensorBoard hides the
steps past the checkpoint by itself: its file is opened at the first write, whose step is the `purge_step`. The
others keep them and draw the repeated steps again.
"""

import importlib
import math
import re
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from unmask.configs.load import flatten
from unmask.configs.run import RunConfig
from unmask.runs.files import write_text

Numbers = Mapping[str, float]
# The first pattern that matches a whole name decides; all others are of the section `train`.
SECTIONS = {
    "time": r".+_(wall|cpu)_s",
    "sync": r"(sync|weight_sync)_.+|staleness|staleness_max|worker_restarts",
    "eval": r"eval_.+",
    "val": r"val_.+",
    "reward": r"reward_.+",
    "value": r"value_.+|advantage_variance.*",
    "alarm": r"alarm_.+",
    "rollout": r"reward|accuracy|unfit_problems|groups_.+|rollout_rounds|overlong|overlong_penalty|forfeited"
    r"|response_tokens|truncated|draft_reward|tokens_per_(denoising_step|forward|s)",
}
TENSORBOARD = "torch.utils.tensorboard"


class Tracker(Protocol):
    """A further place for the metrics of a run."""

    def write(self, step: int, numbers: Numbers) -> None:
        """Write the metrics of a step, by their plain names."""
        ...

    def close(self) -> None:
        """Send what is left and end the tracker's run."""
        ...


def sectioned(name: str) -> str:
    """Return the name of a metric in trackers, `section/name`: `eval_accuracy` is `eval/accuracy`."""
    found = (one for one, pattern in SECTIONS.items() if re.fullmatch(pattern, name))
    section = next(found, "train")
    return f"{section}/{name.removeprefix(f'{section}_')}"


def open_trackers(path: Path, run: RunConfig, config: Mapping[str, Any]) -> tuple[Tracker, ...]:
    """Open the trackers that `[run]` names.

    Args:
        path: the run directory.
        run: the keys of the trackers.
        config: the whole configuration, which trackers show.

    Raises:
        ValueError: a package is missing, or a tracker refuses; names the key and what to do.
    """
    # Standard output is for a command's result; some packages print their greetings there.
    with redirect_stdout(sys.stderr):
        return tuple(_opened(path, run, config))


def _opened(path: Path, run: RunConfig, config: Mapping[str, Any]) -> Iterator[Tracker]:
    if run.tensorboard:
        yield _TensorBoard(path / "tensorboard")
    if run.wandb is not None:
        yield _open_wandb(path, run.wandb, config)
    if run.trackio is not None:
        yield _open_trackio(path, run.trackio, config)
    if run.swanlab is not None:
        yield _open_swanlab(path, run.swanlab, config)
    if run.mlflow is not None:
        yield _MLflow(path, run.mlflow, config)


def check_trackers(run: RunConfig) -> None:
    """Refuse a tracker whose package is missing; call it before the run directory is made.

    Raises:
        ValueError: naming the key and what to do.
    """
    if run.tensorboard:
        _require(TENSORBOARD, "run.tensorboard")
    for name in ("wandb", "trackio", "swanlab", "mlflow"):
        if getattr(run, name) is not None:
            _require(name, f"run.{name}")


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


def _finite(numbers: Numbers) -> dict[str, float]:
    return {sectioned(name): value for name, value in numbers.items() if math.isfinite(value)}


class _TensorBoard:
    """Event files for `tensorboard --logdir`, which hides what an earlier process wrote from the first step on."""

    def __init__(self, directory: Path) -> None:
        package = _require(TENSORBOARD, "run.tensorboard")
        self._open = partial(package.SummaryWriter, str(directory))
        self._writer: Any = None

    def write(self, step: int, numbers: Numbers) -> None:
        if self._writer is None:
            self._writer = self._open(purge_step=step)
        for name, value in numbers.items():
            self._writer.add_scalar(sectioned(name), value, step)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _Logged:
    """A run of a package in the form of W&B: `run.log(numbers)` and `package.finish()`."""

    def __init__(self, package: Any, run: Any, has_step: bool) -> None:
        """Log to `run`; `has_step` where `log` takes the step as an argument, and not as a metric."""
        self._package, self._run, self._has_step = package, run, has_step

    def write(self, step: int, numbers: Numbers) -> None:
        if self._has_step:
            self._run.log(_finite(numbers), step=step)
        else:
            self._run.log({"step": step, **_finite(numbers)})

    def close(self) -> None:
        with redirect_stdout(sys.stderr):
            self._package.finish()


def _kept_id(path: Path, tracker: str) -> str:
    """Return the id of a run at a tracker, drawn at the first call and kept in the run directory."""
    place = path / f"{tracker}_id.txt"
    if not place.is_file():
        write_text(place, f"{uuid.uuid4().hex[:12]}\n")
    return place.read_text().strip()


def _refusal(key: str, value: str, error: Exception, correction: str) -> ValueError:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return ValueError(f"{key} = {value}: it refused: {reason}; {correction}")


def _open_wandb(path: Path, project: str, config: Mapping[str, Any]) -> Tracker:
    wandb = _require("wandb", "run.wandb")
    try:
        run = wandb.init(
            project=project,
            name=path.name,
            id=_kept_id(path, "wandb"),
            resume="allow",
            dir=str(path),
            config=config,
            settings=wandb.Settings(console="off", disable_code=True, disable_git=True),
        )
    except wandb.errors.Error as error:
        correction = "run `wandb login`, or set WANDB_MODE=offline"
        raise _refusal("run.wandb", project, error, correction) from None
    # A resumed run writes lower steps than the last, which W&B drops unless the step is a metric.
    run.define_metric("*", step_metric="step")
    return _Logged(wandb, run, has_step=False)


def _open_trackio(path: Path, project: str, config: Mapping[str, Any]) -> Tracker:
    trackio = _require("trackio", "run.trackio")
    # It has no ids: a run is found by its name, so that names must differ.
    name = f"{path.name}-{_kept_id(path, 'trackio')}"
    try:
        run = trackio.init(project=project, name=name, resume="allow", config=dict(config))
    except Exception as error:  # of the hub's client, of SQLite, of its own checks
        correction = "see the variables TRACKIO_DIR, TRACKIO_SPACE_ID and TRACKIO_SERVER_URL"
        raise _refusal("run.trackio", project, error, correction) from None
    return _Logged(trackio, run, has_step=True)


def _open_swanlab(path: Path, project: str, config: Mapping[str, Any]) -> Tracker:
    swanlab = _require("swanlab", "run.swanlab")
    try:
        run = swanlab.init(
            project=project,
            name=path.name,
            id=_kept_id(path, "swanlab"),
            resume="allow",
            log_dir=str(path / "swanlab"),
            config=dict(config),
            # The terminal's text is no metric, and may hold what a user did not mean to send.
            settings=swanlab.Settings(terminal={"proxy_type": "none"}),
        )
    except Exception as error:  # RuntimeError without a login, others of its server
        correction = "run `swanlab login`, or set SWANLAB_MODE=offline"
        raise _refusal("run.swanlab", project, error, correction) from None
    return _Logged(swanlab, run, has_step=True)


class _MLflow:
    """A run of an MLflow experiment; the same one when the run is resumed."""

    def __init__(self, path: Path, experiment: str, config: Mapping[str, Any]) -> None:
        mlflow = _require("mlflow", "run.mlflow")
        place = path / "mlflow_id.txt"
        # The server draws the id.
        known = place.read_text().strip() if place.is_file() else None
        try:
            mlflow.set_experiment(experiment)
            run = mlflow.start_run(run_id=known, run_name=path.name)
            if known is None:
                # A parameter cannot be changed later, and a resumed run may have other values.
                mlflow.log_params(dict(flatten(config)))
        except mlflow.exceptions.MlflowException as error:
            correction = "set MLFLOW_TRACKING_URI to the address of a server"
            raise _refusal("run.mlflow", experiment, error, correction) from None
        if known is None:
            write_text(place, f"{run.info.run_id}\n")
        self._mlflow = mlflow

    def write(self, step: int, numbers: Numbers) -> None:
        self._mlflow.log_metrics(_finite(numbers), step=step, synchronous=False)

    def close(self) -> None:
        self._mlflow.flush_async_logging()
        self._mlflow.end_run()
