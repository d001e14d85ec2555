"""The weights that a run starts from: those of its last checkpoint, or for a new run those of its config."""

import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import torch

from unmask.checkpoints.lora_files import load_adapter
from unmask.configs.model import ModelConfig
from unmask.configs.rl import RLConfig
from unmask.configs.training import PolicyConfig, TrainingConfig
from unmask.distributed.world import ALONE, World
from unmask.engine.build import build_llm
from unmask.engine.llm import LLM
from unmask.models.lora import LoRAParams, add_lora
from unmask.models.trained_parts import choose_trained
from unmask.runs.directory import check_run, with_recorded_budget
from unmask.runs.files import remove_leftovers
from unmask.runs.manifest import MANIFEST, damage
from unmask.runs.trackers import check_trackers
from unmask.seeds import derive_seed
from unmask.tasks.build import build_task
from unmask.tasks.task import Task
from unmask.trainers.pack_budget import free_gib

T = TypeVar("T")
ADAPTER, BEST, CRITIC, MODEL = "adapter", "best", "critic", "model"
# Keeps the seed of fresh adapters apart from those of the steps, which begin at 1.
ADAPTER_DRAW = 0


@dataclass(frozen=True, slots=True)
class Start(Generic[T]):
    """Config, model and task at the start of a run.

    Attributes:
        config: of the run.
        resume: whether it goes on from the last checkpoint of `run.dir`, if there is one.
        llm: the model under training, with its engine.
        task: for evaluation, and as a source.
        world: the ranks that train together.
    """

    config: TrainingConfig
    resume: bool
    llm: T
    task: Task
    world: World = ALONE


def prepare(config: PolicyConfig, resume: bool, world: World = ALONE) -> Start[LLM]:
    """Load the model that a run starts from, and its task, on every rank.

    Raises:
        ValueError: for what the config asks and cannot have, naming the key; first of all a run
            directory that must not be written.
    """
    resume = resume or world.is_restart
    model = prepare_directory(config, resume, world)
    with world.together("start"):
        start = Start(config, resume, starting_llm(config, model), build_task(config.task), world)
    return replace(start, config=with_memory(config, start.llm, world))


def with_memory(config: PolicyConfig, llm: LLM, world: World) -> PolicyConfig:
    """Return the config with what chooses the token budget on this machine, or where the run began."""
    config = with_recorded_budget(config)
    if config.optimizer.memory != "auto" or llm.model.device.type != "cuda":
        return config
    memory = min(world.gather(free_gib(config, llm, world.size)))
    sys.stderr.write(f"optimizer.memory = {memory:g}: GiB that are free for training\n")
    optimizer = config.optimizer.model_copy(update={"memory": memory})
    return config.model_copy(update={"optimizer": optimizer})


def prepare_directory(config: TrainingConfig, resume: bool, world: World = ALONE) -> ModelConfig:
    """Check the run directory, and return the `[model]` that the run starts from.

    Raises:
        ValueError: a run directory that must not be written, or as `starting_model`.
    """
    with world.together("run directory"):
        check_run(config, resume)
        check_trackers(config.run)
        if world.is_main:  # before another rank looks for checkpoints
            remove_leftovers(config.run.dir)
    torch.set_num_threads(config.run.threads)
    with world.together("checkpoint"):
        return starting_model(config, world)


def starting_llm(config: PolicyConfig, model: ModelConfig | None = None) -> LLM:
    """Load the model a run starts from; where the config has `[lora]`, with adapters.

    They are those of the run's last checkpoint, else fresh ones.

    Args:
        config: of the run.
        model: returned by `starting_model`, if it was called.

    Raises:
        ValueError: as `starting_model`, `build_llm`, `choose_trained`, `add_lora` and `load_adapter`.
    """
    llm = build_llm(model or starting_model(config), config.engine)
    choose_trained(llm.model, config.model.trains)
    if config.lora is None:
        return llm
    found = checkpoints(config.run.dir)
    if found:
        load_adapter(llm.model, found[-1] / ADAPTER)
    else:
        params = LoRAParams(**config.lora.model_dump())
        add_lora(llm.model, params, derive_seed(config.run.seed, ADAPTER_DRAW))
    llm.engine.update_weights(version=0)  # it may have laid out a model without adapters
    return llm


def starting_model(config: TrainingConfig, world: World = ALONE) -> ModelConfig:
    """Return the `[model]` a run starts from: its last checkpoint, or the config's own for a new run or adapters.

    Args:
        config: of the run.
        world: the ranks, which check a share of the files each.

    Raises:
        ValueError: the run is past the config's last step; or the files are not what a run saved.
    """
    # A checkpoint killed between two renames comes back: not later, when an older model is loaded.
    remove_leftovers(config.run.dir)
    found = checkpoints(config.run.dir)
    if not found or config.lora is not None:
        _check_start(Path(config.model.path), world)
    if not found:
        return config.model
    if isinstance(config, RLConfig) or config.epochs is None:
        check_steps(config)  # those of epochs are counted when the data has been read
    check_whole(config.run.dir, world)
    if config.lora is not None:
        return config.model
    return config.model.model_copy(update={"path": str(found[-1] / MODEL)})


def check_steps(config: TrainingConfig) -> None:
    """Refuse a run that is past the config's last step.

    Raises:
        ValueError: naming the step of its last checkpoint.
    """
    for step in map(step_of, checkpoints(config.run.dir)[-1:]):
        if step > config.steps:
            raise ValueError(
                f"steps = {config.steps}: the run in {config.run.dir} is at step {step} already; "
                f"give {step} or more"
            )


def _check_start(model: Path, world: World) -> None:
    """Refuse a model that a run saved and that is not what was saved; others have no digests.

    Raises:
        ValueError: naming the file.
    """
    manifest = model / MANIFEST
    if manifest.is_file():
        remedy = f"restore it, or remove {manifest} to take the model as it is now"
        _refuse_damage(model, remedy, world)


def saved_critic(config: RLConfig) -> Path | None:
    """Return the `critic/` of the run's last checkpoint; None in a new run."""
    found = checkpoints(config.run.dir)
    return found[-1] / CRITIC if found else None


def checkpoints(run: Path) -> list[Path]:
    """Return a run's checkpoints, oldest first."""
    found = (run / "checkpoints").glob("step-*")
    return sorted((p for p in found if re.fullmatch("step-[0-9]+", p.name)), key=step_of)


def check_whole(run: Path, world: World = ALONE) -> None:
    """Refuse to go on with a checkpoint or a best model that is not what was saved.

    Args:
        run: its directory.
        world: the ranks, which check a share of the files each.

    Raises:
        ValueError: naming the file, and how to go on without it.
    """
    *_, last = checkpoints(run)
    _refuse_damage(last, way_out(last), world)
    if (run / BEST).exists():
        _refuse_damage(run / BEST, f"remove {run / BEST} to go on without it", world)


def _refuse_damage(directory: Path, remedy: str, world: World) -> None:
    for problem in damage(directory, world.share):
        raise ValueError(f"{problem}; {remedy}")


def way_out(checkpoint: Path) -> str:
    """Return the remedy for a checkpoint that cannot be used."""
    before = [path for path in checkpoints(checkpoint.parent.parent) if path != checkpoint]
    start = before[-1].name if before else "the first step: there is no checkpoint before"
    return f"remove {checkpoint} to go on from {start}"


def step_of(checkpoint: Path) -> int:
    """Return the step that a checkpoint's directory is named after."""
    return int(checkpoint.name.removeprefix("step-"))
