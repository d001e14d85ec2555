"""The keeper: a run's state on disk, so that nothing is lost.

A checkpoint is everything the next step depends on: weights (a plain Hugging Face directory),
optimizer moments and masters, where the source stands, step and versions. Random numbers need no
state, because every draw is keyed by seed and step. It is written under a temporary name and
renamed, so a checkpoint that has its name is whole.

    checkpoints/step-000040/   model/  optimizer.safetensors  state.json
    best/                      the model of the best evaluation so far
    model/                     the model of the last step

A run that ends early, by an error or by a signal, keeps the state of its last complete step; only
one that ends inside an update cannot, and then the checkpoint before stands.
"""

import json
import signal
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from math import inf
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from unmask.configs.model import ModelConfig
from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig
from unmask.data.shuffled import Shuffled
from unmask.engine.llm import LLM
from unmask.models.checkpoint import save_model
from unmask.runs.directory import RunDirectory
from unmask.runs.files import atomic_directory, remove_directory, remove_leftovers, write_json
from unmask.runs.stopped import Stopped
from unmask.trainers.learner import Learner

STATE, OPTIMIZER, MODEL = "state.json", "optimizer.safetensors", "model"
STATE_KEYS = {"step", "num_updates", "policy_version", "source", "best"}
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Keeper:
    """Saves a run's state when it is due, when the run ends, and when it must end.

    A context: `with keeper:` around the loop handles signals and errors.
    """

    def __init__(
        self,
        run: RunDirectory,
        config: SFTConfig | RLConfig,
        llm: LLM,
        learner: Learner,
        source: Shuffled[Any],
    ) -> None:
        """Go on from the run's last checkpoint if it has one.

        Args:
            run: its directory.
            config: how often to save and how many checkpoints to keep.
            llm: weights, already those of the last checkpoint, and policy version.
            learner: masters and optimizer.
            source: what is dealt next.
        """
        self._run, self._config = run, config
        self._llm, self._learner, self._source = llm, learner, source
        self._best = -inf
        self._signal: int | None = None
        self._saved_step = 0
        self.step = 0
        self._restore()
        self._remember(self.step)

    def after(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take note that a step is complete and logged; save what is due.

        Raises:
            Stopped: if a signal came during the step's update.
            OSError: the disk is full; the checkpoint before stands.
        """
        reward = numbers.get("eval_reward", -inf)
        if reward > self._best:
            self._save_model("best")
            self._best = reward
        # Not before: a run that ends while `best/` is written does this step again.
        self._remember(step)
        every = self._config.save_every
        if step == self._config.steps or (every > 0 and step % every == 0):
            self.save()
        if self._signal is not None:
            raise Stopped(self._signal, self.step)

    def finish(self) -> Path:
        """Save the model of the last step as `model/`, and return where it is."""
        self._save_model(MODEL)
        return self._run.model

    def save(self) -> None:
        """Write a checkpoint of the last complete step, and drop the oldest ones."""
        path = self._run.path / "checkpoints" / f"step-{self.step:06d}"
        with _saving(path) as place:
            save_model(self._llm.model, place / MODEL)
            save_file(self._learner.state(), place / OPTIMIZER)
            write_json(place / STATE, self._state)
            # First what the checkpoint follows on: a resumed run must find the lines before it.
            self._run.sync()
        self._saved_step = self.step
        # The next export copies tokenizer and config from here: what it was loaded from may go.
        self._llm.model.source = path / MODEL
        for old in checkpoints(self._run.path)[: -self._config.run.keep_last]:
            remove_directory(old)

    def __enter__(self) -> "Keeper":
        """Take over SIGINT and SIGTERM, where Python lets us: in the main thread."""
        is_main = threading.current_thread() is threading.main_thread()
        taken = SIGNALS if is_main else ()
        self._handlers = {number: signal.signal(number, self._on_signal) for number in taken}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the signals back; save the last complete step if the run ends before its time."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if error is None:
            return
        try:
            if self.step > self._saved_step and not self._is_dirty:
                self.save()
        except OSError as failure:
            if isinstance(error, Stopped):
                self._add_note(failure)
                raise
            if str(failure) != str(error):
                error.add_note(str(failure))
        self._add_note(error)

    def _add_note(self, error: BaseException) -> None:
        if self._saved_step and not isinstance(error, Stopped):
            error.add_note(f"the state of step {self._saved_step} is kept: go on by --resume")

    @property
    def _is_dirty(self) -> bool:
        """Whether the weights are no longer those of the last complete step."""
        return self._learner.num_updates != self._state["num_updates"]

    def _remember(self, step: int) -> None:
        self.step = step
        self._state = {
            "step": step,
            "num_updates": self._learner.num_updates,
            "policy_version": self._llm.engine.policy_version,
            "source": self._source.state(),
            "best": self._best if self._best > -inf else None,
        }

    def _restore(self) -> None:
        found = checkpoints(self._run.path)
        if not found:
            return
        state = _read_state(found[-1])
        try:
            tensors = load_file(found[-1] / OPTIMIZER)
        except (OSError, SafetensorError) as error:
            raise _unreadable(found[-1] / OPTIMIZER, error) from error
        try:
            self._learner.restore(tensors, state["num_updates"])
        except ValueError as error:
            raise ValueError(f"{found[-1] / OPTIMIZER}: {error}") from error
        self._llm.engine.policy_version = state["policy_version"]
        self._source.restore(state["source"])
        if state["best"] is not None:
            self._best = state["best"]
        self.step = self._saved_step = state["step"]

    def _save_model(self, name: str) -> None:
        with _saving(self._run.path / name) as place:
            save_model(self._llm.model, place)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # In the middle of an update the weights belong to no step: `after` stops the run instead.
        # A second signal does not wait.
        if self._is_dirty and self._signal is None:
            self._signal = number
            return
        raise Stopped(number, self._saved_step if self._is_dirty else self.step)


def checkpoints(run: Path) -> list[Path]:
    """Return a run's checkpoints, oldest first."""
    found = [path for path in (run / "checkpoints").glob("step-*") if path.suffix == ""]
    return sorted(found, key=_step_of)


def _read_state(checkpoint: Path) -> dict[str, Any]:
    """Read a checkpoint's `state.json`.

    Raises:
        ValueError: naming it, if it is not there or is not what `Keeper.save` writes.
    """
    path = checkpoint / STATE
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(state, dict) or state.keys() != STATE_KEYS:
        raise _unreadable(path, f"its keys must be {', '.join(sorted(STATE_KEYS))}")
    return state


def _unreadable(path: Path, reason: object) -> ValueError:
    return ValueError(
        f"{path}: cannot be read: {reason}; "
        f"remove {path.parent} to go on from the checkpoint before"
    )


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def starting_model(config: SFTConfig | RLConfig) -> ModelConfig:
    """Return the model a run starts from: its last checkpoint's, else the config's own.

    Raises:
        ValueError: the run is past the config's last step.
    """
    # A checkpoint killed between two renames comes back: not later, when an older model is loaded.
    remove_leftovers(config.run.dir)
    found = checkpoints(config.run.dir)
    if not found:
        return config.model
    step = _step_of(found[-1])
    if step > config.steps:
        raise ValueError(
            f"steps = {config.steps}: the run in {config.run.dir} is at step {step} already; "
            f"give {step} or more"
        )
    return config.model.model_copy(update={"path": str(found[-1] / MODEL)})


@contextmanager
def _saving(path: Path) -> Generator[Path, None, None]:
    """`atomic_directory`, with one line for whatever a full disk makes the libraries raise.

    Raises:
        OSError: naming the directory that could not be written.
    """
    try:
        with atomic_directory(path) as place:
            yield place
    except (OSError, SafetensorError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise OSError(f"{path}: cannot be saved: {reason}") from error
