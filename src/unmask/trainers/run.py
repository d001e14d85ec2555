"""A training run: directory, lock, metrics, report, checkpoints, evaluation, progress and signals.

llm, task = prepare(config, resume)
with Run(config, resume, llm, task, source, learner) as run:
for step in run.steps():
...
run.end_step(step, metrics, clock)
return run.finish()
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Any

from unmask.configs.rl import RLConfig
from unmask.data.shuffled import Shuffled
from unmask.runs.clock import Clock
from unmask.runs.directory import open_run
from unmask.runs.metrics import open_metrics
from unmask.runs.progress import Progress
from unmask.trainers.checkpointer import Checkpointer, ValueTraining
from unmask.trainers.evaluator import Evaluator
from unmask.trainers.learner import Learner
from unmask.trainers.start import Start
from unmask.viewer.live import LiveReport

# The metrics that the progress bar shows, where a step has them.
SHOWN = {
    "SFT": ("loss", "packed_tokens_per_s", "eval_accuracy"),
    "RL": ("reward", "accuracy", "tokens_per_s", "eval_accuracy"),
}


class Run:
    """A run under way; leaving the `with` saves the last complete step and draws the last report."""

    def __init__(
        self,
        start: Start,
        source: Shuffled[Any],
        learner: Learner,
        value: ValueTraining | None = None,
    ) -> None:
        """Read the evaluation's problems; no file is written yet.

        Args:
            start: config, model and task.
            source: of training items.
            learner: of the policy.
            value: the value model, if there is one, and the learner of its own weights.

        Raises:
            ValueError: as `Evaluator`.
        """
        self._start, self._config = start, start.config
        self._source, self._learner, self._value = source, learner, value
        self._name = "RL" if isinstance(start.config, RLConfig) else "SFT"
        self._evaluator = Evaluator(start.llm, start.task, start.config)
        self._stack = ExitStack()

    def __enter__(self) -> "Run":
        """Open the directory and what writes into it.

        Raises:
            ValueError: as `open_run`, and for a checkpoint that does not fit.
        """
        with ExitStack() as stack:
            stack.enter_context(closing(self._start.task))
            # Opened after everything that can fail, so that an error leaves no run directory behind.
            directory = open_run(self._config, self._start.resume, self._start.task.isolation)
            stack.enter_context(closing(directory))
            self._directory = directory
            self._metrics = stack.enter_context(open_metrics(directory, self._config))
            self._report = stack.enter_context(LiveReport(directory.path))
            checkpointer = Checkpointer(
                directory, self._start, self._source, self._learner, self._value
            )
            self._checkpointer = stack.enter_context(checkpointer)
            bar = Progress(self._config.steps, self._name, checkpointer.step)
            self._bar = stack.enter_context(bar)
            self._metrics.cut_back(checkpointer.step)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close everything, last opened first."""
        self._stack.__exit__(kind, error, trace)

    def steps(self) -> Iterator[int]:
        """Yield the steps that are left, counted from 1."""
        yield from range(self._checkpointer.step + 1, self._config.steps + 1)

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
            OSError: a file cannot be written.
        """
        if self._evaluator.is_due(step, self._config.steps):
            with clock("eval"):
                metrics = {**metrics, **self._evaluator.measure()}
        self._metrics.log(step=step, **metrics, **clock.numbers())
        self._directory.record(records)
        shown = {name: metrics[name] for name in SHOWN[self._name] if name in metrics}
        self._bar.advance(1, **shown)
        self._report.refresh()
        self._checkpointer.on_step_end(step, metrics)

    def finish(self) -> Path:
        """Save the model of the last step and return its directory."""
        return self._checkpointer.finish()
