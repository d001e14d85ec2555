"""A run directory: all files of a run, readable without unmask.

    config.json          the resolved configuration
    environment.json     versions, machine, threads, command line, start time, digests of the data files
    metrics.jsonl        one JSON object per line: the step and its metrics
    trajectories.jsonl   some of the responses: token ids, step map, text, reward
    model/               the weights as a plain Hugging Face directory
    .lock                held by the process that writes the run

A run never overwrites another one: a directory that is not empty is refused, unless its run is resumed
(`--resume`). The JSON Lines files grow by one step at a time and can be followed during the run; only a
resumed run removes the lines after its checkpoint.
"""

import importlib.metadata
import math
import os
import platform
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock
from pydantic import BaseModel, ValidationError

from unmask import __version__
from unmask.configs.eval import EvalConfig
from unmask.configs.load import dump, flatten
from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig
from unmask.configs.training import TrainingConfig
from unmask.json_files import read_object
from unmask.runs.files import (
    append_lines,
    force_to_disk,
    is_leftover,
    remove_leftovers,
    write_json,
)
from unmask.runs.lock import LOCK, lock
from unmask.runs.manifest import digest

C = TypeVar("C", bound=TrainingConfig | EvalConfig)
CONFIG, METRICS, TRAJECTORIES = "config.json", "metrics.jsonl", "trajectories.jsonl"
ENVIRONMENT = "environment.json"
# Config keys that name files of training or evaluation data.
DATA_KEYS = ("data.path", "data.validation", "pairs.path", "pairs.validation", "task.path")
PACKAGES = ("torch", "transformers", "safetensors", "pydantic", "reasoning-gym")


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """The files of one run.

    Attributes:
        path: the directory.
        lock: keeps other processes from writing it.
    """

    path: Path
    lock: FileLock | None = None

    def close(self) -> None:
        """Release the lock."""
        if self.lock is not None:
            self.lock.release()

    @property
    def model(self) -> Path:
        """Where the trained model is, once it has been saved."""
        return self.path / "model"

    def log(self, *, step: int, **numbers: float) -> None:
        """Append one line of metrics to `metrics.jsonl`.

        NaN and the infinities are written as `null`, because JSON does not have them and a diagnostic
        must not end a run. `null` has no other meaning: a metric that does not exist is absent.
        """
        finite = {name: _finite(value) for name, value in numbers.items()}
        append_lines(self.path / METRICS, [{"step": step, **finite}])

    def record(self, trajectories: Iterable[Mapping[str, Any]]) -> None:
        """Append records made by `trajectory_record` to `trajectories.jsonl`."""
        append_lines(self.path / TRAJECTORIES, trajectories)

    def sync(self) -> None:
        """Force what was logged and recorded to the disk."""
        for path in (self.path / METRICS, self.path / TRAJECTORIES):
            if path.exists():
                force_to_disk(path)
        force_to_disk(self.path)


def check_run(config: TrainingConfig | EvalConfig, resume: bool = False) -> None:
    """Refuse a directory that the run may not write; call it before anything heavy is loaded.

    Args:
        config: the run's.
        resume: whether an existing run continues. Then its configuration must be the same: only `steps`,
            `eval.*`, `distributed.*`, `run.*`, `optimizer.offload` and `rollout.workers` may differ, except
            `run.seed` and `run.threads`; and `optimizer.memory = "auto"` stands for what the run began with.

    Raises:
        ValueError: naming the key.
    """
    path = config.run.dir
    _check_writable(path)
    if not resume:
        if path.exists() and not is_empty(path):
            raise ValueError(
                f"run.dir = {path}: is not empty, and a run never writes over another; "
                "resume it by --resume, give another run.dir=..., or move it away"
            )
        return
    if not path.exists() or is_empty(path):
        return
    if not (path / CONFIG).is_file():
        raise ValueError(f"run.dir = {path}: has no {CONFIG}, so there is no run to resume")
    # RL's `epochs` are passes over a step's batch.
    epochs = () if isinstance(config, RLConfig) else ("epochs",)
    free = ("steps", "optimizer.offload", "rollout.workers", *epochs)
    config = with_recorded_budget(config)
    before = dict(flatten(_recorded(path / CONFIG, type(config))))
    now = dict(flatten(dump(config)))
    for key in sorted(before.keys() | now.keys()):
        is_free = key.startswith(("run.", "eval.", "distributed.")) or key in free
        is_free = is_free and key not in ("run.seed", "run.threads")
        if before.get(key) != now.get(key) and not is_free:
            raise ValueError(
                f"{key} = {now.get(key)}: the run in {path} has {before.get(key)}; --resume may "
                "change steps, eval.*, distributed.*, optimizer.offload, rollout.workers and run.* only, and "
                "neither run.seed nor run.threads"
            )


def with_recorded_budget(config: C) -> C:
    """Return the config with the token budget or memory that its run began with, where it has `memory = "auto"`.

    Free memory differs between machines; the packs of a run, and so its numbers, do not.
    """
    optimizer = None if isinstance(config, EvalConfig) else config.optimizer
    place = config.run.dir / CONFIG
    if optimizer is None or optimizer.memory != "auto" or not place.is_file():
        return config
    found = _recorded(place, type(config)).get("optimizer", {})
    keys = {name: found[name] for name in ("token_budget", "memory") if name in found}
    return config.model_copy(update={"optimizer": optimizer.model_copy(update=keys)})


def _recorded(path: Path, kind: type[BaseModel]) -> dict[str, Any]:
    """Return the config that a run began with; keys that are newer than the run have their defaults."""
    found = read_object(path)
    try:
        return dump(kind.model_validate(found))
    except ValidationError:
        return found  # the comparison names the key


def open_run(
    config: TrainingConfig | EvalConfig,
    resume: bool = False,
    isolation: str | None = None,
    attention: str | None = None,
) -> RunDirectory:
    """Create or resume the directory `config.run.dir`, lock it, and record configuration and environment.

    Close it at the end of the run.

    Args:
        config: the run's.
        resume: whether an existing run continues.
        isolation: the isolation of programs that the model writes; None if none are run.
        attention: the engine's attention backend; None if unknown.

    Raises:
        ValueError: as `check_run`; or another process is writing the run; or a data file changed since
            the run began.
        OSError: the directory cannot be written.
    """
    check_run(config, resume)
    path = config.run.dir
    path.mkdir(parents=True, exist_ok=True)
    run = RunDirectory(path, lock(path))
    try:
        check_run(
            config, resume
        )  # again: another process may have written before the lock was held
        remove_leftovers(path)
        now = environment(config.run.threads) | {"data": _data_digests(config)}
        _check_data(path / ENVIRONMENT, now["data"])
        # The configuration first: a directory that holds it can be resumed without the other files.
        write_json(path / CONFIG, dump(config))
        if isolation is not None:
            now["isolation"] = isolation
            sys.stderr.write(f"programs are locked in: {isolation}\n")
        if attention is not None:
            now["attention"] = attention
        _write_environment(path / ENVIRONMENT, now)
    except BaseException:
        run.close()
        raise
    return run


def _data_digests(config: TrainingConfig | EvalConfig) -> dict[str, str]:
    """Return the digest of every data file that a config names, by key; of a directory, of its files."""
    found: dict[str, str] = {}
    for key, place in _data_files(config):
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if file.is_file():
                found[f"{key} = {file}"] = digest(file)
    return found


def _data_files(config: TrainingConfig | EvalConfig) -> Iterator[tuple[str, Path]]:
    for key, value in flatten(dump(config)):
        if key in DATA_KEYS and isinstance(value, str):
            yield key, Path(value)
    for name, source in config.data.named_sources if isinstance(config, SFTConfig) else ():
        if source.path is not None and name != "data":
            yield f"{name}.path", source.path


def _check_data(environment: Path, now: dict[str, str]) -> None:
    """Compare the data files with those that the run began with, where it recorded them.

    Raises:
        ValueError: naming the key of one that changed.
    """
    recorded = _read_environment(environment).get("data", now)
    for name in sorted({*recorded, *now}):
        if recorded.get(name) != now.get(name):
            raise ValueError(
                f"{name}: the content of the file changed since the run in {environment.parent} began; "
                "restore the file, or start another run (run.dir=...)"
            )


def _read_environment(path: Path) -> dict[str, Any]:
    """Return the environment that a run recorded when it began; empty for a new run.

    Raises:
        ValueError: naming the file, if it is not what `open_run` writes.
    """
    if not path.is_file():
        return {}
    try:
        found = read_object(path)
    except ValueError as error:
        raise ValueError(f"{error}, so the run cannot be resumed") from None
    if not {"packages", "start_time"} <= found.keys():
        raise ValueError(f"{path}: has no packages or start_time, so the run cannot be resumed")
    return found


def _write_environment(place: Path, now: dict[str, Any]) -> None:
    """Write the environment; a resumed run keeps its start time and lists the times of resuming."""
    if before := _read_environment(place):
        if before["packages"] != now["packages"]:
            warnings.warn(
                f"{place}: the run began with other versions ({before['packages']}): it is resumed, "
                "but the last bits may differ",
                stacklevel=2,
            )
        if before.get("attention", now.get("attention")) != now.get("attention"):
            warnings.warn(
                f"{place}: the run began with the attention backend {before['attention']!r} and goes "
                f"on with {now.get('attention')!r}, so the last bits may differ; engine.attention names one",
                stacklevel=2,
            )
        times = [*before.get("resumed", []), now["start_time"]]
        now = {**now, "start_time": before["start_time"], "resumed": times}
    write_json(place, now)


def environment(threads: int) -> dict[str, Any]:
    """Return versions, machine, threads, command line and time.

    Args:
        threads: CPU threads of torch; another number changes the last bits of results.
    """
    return {
        "start_time": datetime.now(UTC).isoformat(timespec="seconds"),
        "argv": sys.argv,
        "unmask": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "threads": threads,
        "packages": {name: package_version(name) for name in PACKAGES},
    }


def move_aside(path: Path) -> Path | None:
    """Rename an earlier run to the first free `path.<n>`.

    Returns:
        Its new place; None if there was nothing to move.
    """
    if not path.exists() or is_empty(path):
        return None
    number = 1
    while (place := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    return path.rename(place)


def is_empty(path: Path) -> bool:
    """Return whether this is a directory without entries other than a lock and leftovers of a killed process."""
    return path.is_dir() and all(
        is_leftover(entry) or entry.name == LOCK for entry in path.iterdir()
    )


def _check_writable(path: Path) -> None:
    place = path.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        reason = "cannot be written" if place.is_dir() else "is not a directory"
        raise ValueError(f"run.dir = {path}: {place} {reason}; give another run.dir=...")


def _finite(value: float) -> float | None:
    number = value if isinstance(value, int) else float(value)
    return number if math.isfinite(number) else None


def package_version(package: str) -> str | None:
    """Return the version of an installed package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
