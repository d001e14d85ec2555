"""Checkpoints: a run's state on disk, so that nothing is lost.

A checkpoint is everything the next step depends on: weights (a plain Hugging Face directory),
optimizer moments and masters, where the source stands, step and versions. Random numbers need no
state, because every draw is keyed by seed and step. It is written under a temporary name and
renamed, so a checkpoint under its own name is whole. Each directory holds the digests of its files
(`runs/manifest.py`), and nothing is gone on with that differs from them.

    checkpoints/step-000040/   model/  optimizer.safetensors  state.json  manifest.json
    best/                      the model of the best evaluation, or lowest `val_nll` or `val_loss`, so far
    model/                     the model of the last step

A run that trains adapters (`[lora]`) keeps those in place of the weights, which stay as they are in
`model.path`; its models are whole ones all the same, the adapters merged.

    checkpoints/step-000040/   adapter/  optimizer.safetensors  state.json
    adapter/                   the adapters of the last step, as peft reads them

A run with a value model keeps the trained part of it next to the policy (`checkpoints/value_model_files.py`);
the last one is left as `critic/`, a whole checkpoint if it has a backbone of its own. The optimizer of a
value head on the policy's backbone is the policy's.

    checkpoints/step-000040/   ...  critic/  critic.safetensors

Several ranks write one checkpoint: each the part that it holds of masters and moments (`state_files.py`), into
the temporary directory of rank 0, which writes all else. Where one cannot write, all raise its error.

    checkpoints/step-000040/   ...  optimizer/  critic_optimizer/

A run that ends early, by an error or by a signal, keeps the state of its last complete step; only
one that ends inside an update cannot, and then the checkpoint before stands.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from safetensors import SafetensorError

from unmask.checkpoints.checkpoint import save_model
from unmask.checkpoints.lora_files import save_adapter
from unmask.checkpoints.value_model_files import export_critic, is_whole, save_critic
from unmask.data.shuffled import Source
from unmask.distributed.world import ALONE, AgreedError, World
from unmask.json_files import read_object
from unmask.models.lora import adapters
from unmask.models.value_model import ActorCritic, ValueModel
from unmask.runs.directory import RunDirectory
from unmask.runs.files import atomic_directory, remove_directory, write_json
from unmask.runs.manifest import digests, saved_files, write_manifest
from unmask.runs.signals import Stopped, on_signal
from unmask.trainers.learner import Learner
from unmask.trainers.start import ADAPTER, BEST, CRITIC, MODEL, Start, checkpoints, step_of, way_out
from unmask.trainers.state_files import build_state_format, find_state, read_state

STATE = "state.json"
CRITIC_UPDATES = "critic_updates"
T = TypeVar("T")
STATE_KEYS = {"step", "num_updates", "policy_version", "source", "best"}


@dataclass(frozen=True, slots=True)
class ValueTraining:
    """A value model under training.

    Attributes:
        model: estimates the values.
        learner: of its own weights; None where it shares the policy's.
    """

    model: ValueModel | ActorCritic
    learner: Learner | None = None


class Checkpointer:
    """Saves a run's state when it is due, when the run ends, and when it must end.

    `with checkpointer.guard():` around the loop handles signals and errors.
    """

    def __init__(
        self,
        run: RunDirectory,
        start: Start[Any],
        source: Source,
        learner: Learner,
        value: ValueTraining | None = None,
        world: World = ALONE,
    ) -> None:
        """Go on from the run's last checkpoint if it has one.

        Args:
            run: its directory.
            start: how often to save, how many checkpoints to keep, and the model, its weights already
                those of the last checkpoint.
            source: the position in the data.
            learner: masters and optimizer state of the policy.
            value: the value model, its weights already those of the last checkpoint.
            world: the ranks that train together; rank 0 writes.
        """
        self._run, self._config, self._world = run, start.config, world
        self._llm, self._source = start.llm, source
        self._format = build_state_format(world)
        self._value_model = value.model if value else None
        self._value_learner = (value.learner or learner) if value else None
        self._learners = {"num_updates": learner}
        if value and value.learner:
            self._learners[CRITIC_UPDATES] = value.learner
        self._best = -inf
        self._signal: int | None = None
        self._saved_step = 0
        self.step = 0
        self._restore()
        self._remember(self.step)

    def on_step_end(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record that a step is complete and logged; save what is due.

        Raises:
            Stopped: if a signal came during the step's update.
            OSError: the disk is full; the checkpoint before stands.
        """
        # Without evaluation of a task, held-out demonstrations or pairs decide.
        held_out = metrics.get("val_nll", metrics.get("val_loss", inf))
        score = metrics.get("eval_reward", -held_out)
        if score > self._best:
            self._save_model(BEST)
            self._best = score
        # Not before: a run that ends while `best/` is written does this step again.
        self._remember(step)
        every = self._config.save_every
        if step == self._config.steps or (every > 0 and step % every == 0):
            self.save()
        for number in self._world.gather(self._signal):
            if number is not None:
                raise Stopped(number, self.step)

    def finish(self) -> Path:
        """Save the model of the last step as `model/`, and return where it is; adapters as `adapter/`."""
        self._save_model(MODEL)
        if self._has_adapters:
            with self._saving(self._run.path / ADAPTER) as place:
                base = self._config.model.path
                self._on_main(lambda: save_adapter(self._llm.model, place, base))
        if self._value_learner is not None:
            with self._saving(self._run.path / CRITIC) as place:
                critic = _whole_critic(self._value_learner)
                self._on_main(lambda: export_critic(critic, place))
        return self._run.model

    def save(self) -> None:
        """Write a checkpoint of the last complete step, and drop the oldest ones."""
        path = self._run.path / "checkpoints" / f"step-{self.step:06d}"
        with self._saving(path) as place:
            for key, learner in self._learners.items():
                name = self._format.critic if key == CRITIC_UPDATES else self._format.policy
                self._format.write(learner.state(), place / name)
            trained = self._value_learner
            critic = _whole_critic(trained, is_checkpoint=True) if trained else None
            self._on_main(lambda: self._write_models(place, critic))
        self._saved_step = self.step
        if not self._has_adapters:
            # The next export copies tokenizer and config from here: what it was loaded from may go.
            self._llm.model.source = path / MODEL
        if self._value_model is not None and is_whole(self._value_model):
            self._value_model.source = path / CRITIC
        self._on_main(self._drop_old)

    def _drop_old(self) -> None:
        for old in checkpoints(self._run.path)[: -self._config.run.keep_last]:
            remove_directory(old)

    @contextmanager
    def guard(self) -> Generator[None, None, None]:
        """Handle SIGINT and SIGTERM inside the `with`; save the last complete step after an error."""
        with ExitStack() as stack:
            if self._world.size > 1:  # a signal that comes twice must not end the last save
                stack.enter_context(on_signal(lambda *_: None))
            with self._saved_at_the_end():
                yield

    @contextmanager
    def _saved_at_the_end(self) -> Generator[None, None, None]:
        try:
            with on_signal(self._on_signal):
                yield
        except BaseException as error:
            try:
                is_common = self._world.size == 1 or isinstance(error, (AgreedError, Stopped))
                if is_common and self.step > self._saved_step and not self._is_dirty:
                    self.save()
            except (OSError, AgreedError) as failure:
                if isinstance(error, Stopped):
                    self._add_note(failure)
                    raise
                if str(failure) != str(error):
                    error.add_note(str(failure))
            self._add_note(error)
            raise

    def _add_note(self, error: BaseException) -> None:
        if self._saved_step and not isinstance(error, Stopped):
            error.add_note(f"the state of step {self._saved_step} is kept: go on by --resume")

    @property
    def _has_adapters(self) -> bool:
        """Whether the run trains adapters, and the weights stay as they are."""
        return bool(adapters(self._llm.model))

    @property
    def _is_dirty(self) -> bool:
        """Whether the weights are no longer those of the last complete step."""
        return any(self._state[name] != count for name, count in self._num_updates().items())

    def _num_updates(self) -> dict[str, int]:
        """Return the optimizer steps taken, by their key in `state.json`."""
        return {key: learner.num_updates for key, learner in self._learners.items()}

    def _remember(self, step: int) -> None:
        self.step = step
        self._state = {
            "step": step,
            **self._num_updates(),
            "policy_version": self._llm.engine.policy_version,
            "source": self._source.state(),
            "best": self._best if self._best > -inf else None,
        }

    def _restore(self) -> None:
        found = checkpoints(self._run.path)
        self._world.check_equal("checkpoints", lambda: [path.name for path in found])
        if not found:
            return
        with self._world.together("resuming"):
            self._restore_from(found[-1])

    def _restore_from(self, checkpoint: Path) -> None:
        state = _read_state(checkpoint)
        for key, learner in self._learners.items():
            path = find_state(checkpoint, key == CRITIC_UPDATES)
            with _reading(path):
                tensors = read_state(path, learner.masters)
            try:
                learner.restore(tensors, state.get(key, 0))
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
        self._llm.engine.policy_version = state["policy_version"]
        self._source.restore(state["source"])
        if state["best"] is not None:
            self._best = state["best"]
        self.step = self._saved_step = state["step"]

    def _save_model(self, name: str) -> None:
        with self._saving(self._run.path / name) as place:
            self._on_main(lambda: save_model(self._llm.model, place))

    def _write_models(self, place: Path, critic: ValueModel | ActorCritic | None) -> None:
        """Write what a checkpoint holds in addition to the state of learners."""
        if self._has_adapters:
            save_adapter(self._llm.model, place / ADAPTER, self._config.model.path)
        else:
            save_model(self._llm.model, place / MODEL)
        if critic is not None:
            save_critic(critic, place / CRITIC)
        write_json(place / STATE, self._state)
        # First what the checkpoint follows on: a resumed run must find the lines before it.
        self._run.sync()

    @contextmanager
    def _saving(self, path: Path) -> Generator[Path, None, None]:
        """Yield a directory for all ranks to fill, which rank 0 makes: `atomic_directory` with a manifest.

        Raises:
            OSError: naming the directory that could not be written; on several ranks AgreedError.
        """
        try:
            with ExitStack() as stack:
                made = self._on_main(lambda: stack.enter_context(atomic_directory(path)))
                place = self._world.gather(made)[0]
                assert place is not None
                with self._world.together("saving"):
                    if not place.is_dir():
                        raise OSError("run.dir must be a directory that all ranks share")
                yield place
                held = self._digests(place)
                self._on_main(lambda: write_manifest(place, held))
                self._on_main(stack.close)  # the directory gets its name
        except AgreedError as error:
            raise AgreedError(f"{path}: cannot be saved: {error}") from error
        except (OSError, SafetensorError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or error
            raise OSError(f"{path}: cannot be saved: {reason}") from error

    def _digests(self, place: Path) -> dict[str, str]:
        """Return the digests of a directory's files, of which each rank reads its share."""
        names = self._world.gather(self._on_main(lambda: saved_files(place)))[0]
        assert names is not None
        with self._world.together("saving"):
            own = digests(place, self._world.share(names))
        return {name: found for part in self._world.gather(own) for name, found in part.items()}

    def _on_main(self, write: Callable[[], T]) -> T | None:
        """Return what a function that writes files returns on rank 0; its error is raised on every rank."""
        with self._world.together("saving"):
            try:
                return write() if self._world.is_main else None
            except SafetensorError as error:  # of a full disk
                raise OSError(str(error)) from error

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # In the middle of an update the weights belong to no step, and another rank may wait for this one in
        # a collective: `on_step_end` stops the run instead. In one process a second signal does not wait.
        waits = self._world.size > 1 or self._signal is None
        if (self._is_dirty and waits) or not self._world.may_stop:
            self._signal = number
            return
        raise Stopped(number, self._saved_step if self._is_dirty else self.step)


def _whole_critic(learner: Learner, is_checkpoint: bool = False) -> ValueModel | ActorCritic:
    """Return a value model with whole weights on rank 0: a collective.

    A checkpoint has no frozen weights under adapters; those of a model without adapters, such as an image tower's,
    are in its files as in any model's.
    """
    assert isinstance(learner.model, ValueModel | ActorCritic)
    found = learner.whole_model(is_trained_only=is_checkpoint and not is_whole(learner.model))
    assert isinstance(found, ValueModel | ActorCritic)
    return found


def _read_state(checkpoint: Path) -> dict[str, Any]:
    """Return a checkpoint's `state.json`.

    Raises:
        ValueError: naming it, if it is not there or is not what `Checkpointer.save` writes.
    """
    with _reading(path := checkpoint / STATE):
        state = read_object(path)
        if state.keys() - {CRITIC_UPDATES} != STATE_KEYS:
            raise ValueError(f"its keys must be {', '.join(sorted(STATE_KEYS))}")
        if state["step"] != step_of(checkpoint):
            raise ValueError(f"it is of step {state['step']}, and its directory of another")
        return state


@contextmanager
def _reading(path: Path) -> Generator[None, None, None]:
    """Name the file of a checkpoint, and what to do about it, in an error of reading it."""
    try:
        yield
    except (OSError, SafetensorError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read: {error}; {way_out(path.parent)}") from error
