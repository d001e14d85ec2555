"""A training run: directory, lock, metrics, report, checkpoints, evaluation, progress and signals.

    start = prepare(config, resume)
    with open_training(start, source, learner) as run:
        for step in run.steps():
            ...
            run.end_step(step, metrics, clock)
        return run.finish()

`trainers/sft.py`, `trainers/dpo.py`, `trainers/rl.py` and `trainers/reward_model.py` are its users.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask.configs.reward_model import RewardModelConfig
from unmask.configs.training import TrainingConfig
from unmask.data.shuffled import Source
from unmask.distributed.world import ALONE, World
from unmask.engine.llm import LLM
from unmask.runs.clock import Clock
from unmask.runs.directory import RunDirectory, open_run
from unmask.runs.metrics import Metrics, open_metrics
from unmask.runs.progress import Progress
from unmask.runs.silent import Silent
from unmask.trainers.checkpointer import Checkpointer, ValueTraining
from unmask.trainers.evaluator import Evaluator
from unmask.trainers.learner import Learner
from unmask.trainers.start import Start
from unmask.viewer.live import LiveReport

# The metrics that the progress bar shows, where a step has them.
SHOWN = {
    "SFT": (
        "loss",
        "packed_tokens_per_s",
        "useful_tokens_per_s",
        "mfu",
        "val_nll",
        "val_nelbo",
        "eval_accuracy",
    ),
    "DPO": ("loss", "pair_accuracy", "margin", "val_loss", "val_pair_accuracy", "eval_accuracy"),
    "RewardModel": ("loss", "pair_accuracy", "margin", "val_loss", "val_pair_accuracy"),
    "RL": ("reward", "accuracy", "tokens_per_s", "eval_accuracy"),
}


@dataclass(frozen=True, slots=True)
class Run:
    """An open run, made by `open_training`.

    Attributes:
        config: of the run.
        directory: its files and its lock.
        metrics: the log of `metrics.jsonl` and its sinks; like report and bar, without effect except on
            rank 0.
        report: redrawn while the run goes on.
        evaluator: evaluates the model when it is due; None for a model that writes nothing.
        checkpointer: saves the state.
        bar: the progress bar.
        world: the ranks that train together.
    """

    config: TrainingConfig
    directory: RunDirectory
    metrics: Metrics | Silent
    report: LiveReport | Silent
    evaluator: Evaluator | None
    checkpointer: Checkpointer
    bar: Progress | Silent
    world: World = ALONE

    def steps(self) -> Iterator[int]:
        """Yield the steps that are left, counted from 1."""
        yield from range(self.checkpointer.step + 1, self.config.steps + 1)

    def end_step(
        self,
        step: int,
        metrics: Mapping[str, float],
        clock: Clock,
        records: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        """Evaluate if it is due, log the step, redraw the report and save what is due.

        Args:
            step: that is complete.
            metrics: of the step.
            clock: its stages.
            records: of trajectories, for `trajectories.jsonl`.

        Raises:
            Stopped: if a signal came during the step's update.
            OSError: a file cannot be written; on several ranks an `AgreedError`.
        """
        if self.evaluator and self.evaluator.is_due(step, self.config.steps):
            with clock("eval"):
                metrics = {**metrics, **self.evaluator.measure()}
        seconds = Clock.of_ranks(self.world.gather(clock.stages)).numbers()
        shown = {name: metrics[name] for name in SHOWN[label_of(self.config)] if name in metrics}
        with self.world.together("log"):
            self.metrics.log(step=step, **metrics, **seconds)
            self.metrics.record(records)
            self.bar.advance(1, **shown)
            self.report.refresh()
        self.checkpointer.on_step_end(step, metrics)

    def finish(self) -> Path:
        """Save the model of the last step and return its directory."""
        return self.checkpointer.finish()


@contextmanager
def open_training(
    start: Start[LLM], source: Source, learner: Learner, value: ValueTraining | None = None
) -> Generator[Run, None, None]:
    """Open a run's directory; leaving the `with` saves the last complete step and draws the last report.

    Args:
        start: config, model and task; the task is closed with the run.
        source: of training items.
        learner: of the policy.
        value: the value model, if there is one, and the learner of its own weights.

    Raises:
        ValueError: as `Evaluator` and `open_run`, and for a checkpoint that does not fit.
    """
    with closing(start.task):
        with start.world.together("evaluation"):
            assert not isinstance(start.config, RewardModelConfig), "no engine samples from it"
            evaluator = Evaluator(start.llm, start.task, start.config, start.world)
        # Opened after everything that can fail, so that an error leaves no run directory behind.
        with open_run_of(start, evaluator, source, learner, value) as run:
            yield run


@contextmanager
def open_run_of(
    start: Start[Any],
    evaluator: Evaluator | None,
    source: Source,
    learner: Learner,
    value: ValueTraining | None = None,
) -> Generator[Run, None, None]:
    """Open a run as `open_training` does, with a given evaluator or with none."""
    config, world = start.config, start.world
    with ExitStack() as stack:
        with world.together("run directory"):
            directory, metrics, report = stack.enter_context(_open_files(start))
        checkpointer = Checkpointer(directory, start, source, learner, value, world)
        shown = Progress(config.steps, label_of(config), checkpointer.step)
        with checkpointer.guard(), shown if world.is_main else Silent() as bar:
            with world.together("log"):
                metrics.cut_back(checkpointer.step)
            yield Run(config, directory, metrics, report, evaluator, checkpointer, bar, world)


@contextmanager
def _open_files(
    start: Start[Any],
) -> Generator[tuple[RunDirectory, Metrics | Silent, LiveReport | Silent], None, None]:
    """Open directory, log and report, which rank 0 alone writes."""
    config = start.config
    if not start.world.is_main:
        yield RunDirectory(config.run.dir), Silent(), Silent()
        return
    attention = start.llm.engine.attention
    with (
        closing(open_run(config, start.resume, start.task.isolation, attention)) as directory,
        open_metrics(directory, config) as metrics,
        LiveReport(directory.path) as report,
    ):
        yield directory, metrics, report


def label_of(config: TrainingConfig) -> str:
    """Return the name of a run's training."""
    return type(config).__name__.removesuffix("Config")
