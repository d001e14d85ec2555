"""Where the responses of a step are written: by the engine of the training process, or by workers.

    rollout.workers = 0   the engine that shares the learner's weights (`OwnEngine`)
    rollout.workers = N   N engines in processes of their own (`rollouts/workers.py`), whose batches may be
                          asked for ahead of their step (`rollouts/ahead.py`)

Both write the same responses from the same weights: the seed of a response depends on the step, the prompt
and the sample alone.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Protocol

from unmask.configs.rl import RLConfig
from unmask.distributed.world import ALONE, World
from unmask.engine.llm import LLM
from unmask.rollouts.ahead import Ahead
from unmask.rollouts.collect import write_trajectories
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt, Trajectory


class Rollouts(Protocol):
    """Writes the responses of a run."""

    def write(self, step: int, prompts: Sequence[Prompt], seed: int) -> list[Trajectory]:
        """Return the trajectories of this rank's share of a round, those of a prompt together.

        Args:
            step: RL step, counted from 1.
            prompts: drawn for this round.
            seed: of this round.
        """
        ...

    def metrics(self) -> dict[str, float]:
        """Return the metrics of the last round."""
        ...


class OwnEngine:
    """Writes with the engine of this process."""

    def __init__(self, llm: LLM, sampling: SamplingParams, world: World) -> None:
        """Store the engine, the parameters of all responses, and the ranks that share them."""
        self._llm, self._sampling, self._world = llm, sampling, world

    def write(self, step: int, prompts: Sequence[Prompt], seed: int) -> list[Trajectory]:
        """Return the trajectories of a round, as `Rollouts` states."""
        return write_trajectories(self._llm, prompts, self._sampling, seed, world=self._world)

    def metrics(self) -> dict[str, float]:
        """Return no metrics."""
        return {}


@contextmanager
def open_rollouts(
    config: RLConfig,
    llm: LLM,
    upcoming: Callable[[int], Sequence[Prompt]],
    world: World = ALONE,
) -> Generator[Rollouts, None, None]:
    """Open the rollouts of a run; leaving the `with` ends the workers.

    Args:
        config: of the run.
        llm: its model and engine, with the learner's weights.
        upcoming: prompts of the first round of a step that is so many steps ahead, not drawn yet.
        world: the ranks, which share prompts and workers.

    Raises:
        ValueError: Ray is not installed, a worker cannot load the model, or the workers cannot be shared.
    """
    sampling = config.sampling.to_params(n=config.rollout.responses)
    if config.rollout.workers == 0:
        yield OwnEngine(llm, sampling, world)
        return
    from unmask.rollouts.workers import open_workers  # imports Ray

    with (
        open_workers(config, llm, world) as workers,
        Ahead(config, llm, workers, upcoming, world) as ahead,
    ):
        yield ahead
