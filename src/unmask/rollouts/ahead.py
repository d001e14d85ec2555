"""Batches of responses that are asked for before their step: generation overlaps training.

With `rollout.staleness = k`, the batch of step s is asked for k steps before, when the weights have version
max(0, s - 1 - k), and written with these weights. Batches are written one after the other in the order of
steps, so which weights write which response depends on the steps alone, never on the time that anything
takes: a run with stale rollouts is repeatable, as one without is. Under `rollout.partial` the newest weights
replace the others as soon as there are some; versions then depend on time, and are still never older.

At k = 0 the learner waits for a batch that is written with its own weights: the synchronous loop.

Batches that were asked for and not trained on leave no trace: the source of prompts counts what was drawn
for a step that is trained, so a resumed run asks for them again, with the same seeds. Its weights are those
of the checkpoint, so its first k batches are less stale than in the run that was not interrupted.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from statistics import fmean
from types import TracebackType
from typing import Protocol, Self

from unmask.configs.rl import RLConfig
from unmask.distributed.world import ALONE, World
from unmask.engine.llm import LLM
from unmask.rollouts.collect import own_requests
from unmask.rollouts.weight_broadcast import Weights, trained_weights
from unmask.sampling_params import SamplingParams
from unmask.seeds import derive_seed
from unmask.types import Prompt, Trajectory

# Prompt and sampling parameters of one response.
Request = tuple[Prompt, SamplingParams]


class Writers(Protocol):
    """Engines elsewhere, which write one batch at a time."""

    def write(self, requests: Sequence[Request], weights: Weights) -> list[Trajectory]:
        """Return one trajectory per request, in order, written with these weights, or newer ones on offer."""
        ...

    def offer(self, weights: Weights) -> None:
        """Let unfinished responses continue under newer weights, where the run allows it."""
        ...

    def metrics(self) -> dict[str, float]:
        """Return what the transfer of weights took since the last call."""
        ...

    def close(self) -> None:
        """End them; a `write` that runs in another thread raises."""
        ...


class Ahead:
    """The batches that are asked for; a `Rollouts`."""

    def __init__(
        self,
        config: RLConfig,
        llm: LLM,
        writers: Writers,
        upcoming: Callable[[int], Sequence[Prompt]],
        world: World = ALONE,
    ) -> None:
        """Ask for nothing yet.

        Args:
            config: of the run.
            llm: holds the learner's weights.
            writers: write the responses.
            upcoming: prompts of the first round of a step that is so many steps ahead.
            world: the ranks, which share the prompts of a batch.
        """
        self._config, self._llm, self._writers = config, llm, writers
        self._upcoming, self._world = upcoming, world
        self._staleness = config.rollout.staleness
        self._sampling = config.sampling.to_params(n=config.rollout.responses)
        # By the seed of the round: the prompts' uids, and the trajectories to come.
        self._asked: dict[int, tuple[list[int], Future[list[Trajectory]]]] = {}
        # One thread writes one batch after the other.
        self._thread = ThreadPoolExecutor(1, "rollouts")
        self._found: dict[str, float] = {}

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the writers, and drop the batches that nothing will be trained on."""
        self._writers.close()
        self._thread.shutdown(cancel_futures=True)

    def write(self, step: int, prompts: Sequence[Prompt], seed: int) -> list[Trajectory]:
        """Return the trajectories of this rank's share of a round, and ask for the batches of the next steps.

        Raises:
            ValueError: a response could not be written.
            RuntimeError: a worker ended and could not be started again.
        """
        version = self._llm.engine.policy_version
        # At staleness 0 the weights stay as they are until the batch is written.
        weights = trained_weights(self._llm.model, version, copies=self._staleness > 0)
        self._writers.offer(weights)
        self._ask(prompts, seed, weights)
        for more in range(1, min(self._staleness, self._config.steps - step) + 1):
            seed_ahead = derive_seed(self._config.run.seed, step + more)
            self._ask(self._upcoming(more), seed_ahead, weights)
        uids, future = self._asked.pop(seed)
        assert uids == [prompt.uid for prompt in prompts], "another batch was asked for ahead"
        trajectories = future.result()
        if not trajectories:  # fewer prompts than ranks
            return []
        ages = [version - trajectory.oldest_version for trajectory in trajectories]
        assert min(ages) >= 0 and max(ages) <= self._staleness, "responses of older weights"
        self._found = {"staleness": fmean(ages), "staleness_max": max(ages)}
        return trajectories

    def metrics(self) -> dict[str, float]:
        """Return how old the weights of the last batch were, and what the transfer of weights took."""
        return self._found | self._writers.metrics()

    def _ask(self, prompts: Sequence[Prompt], seed: int, weights: Weights) -> None:
        if seed not in self._asked:
            requests = own_requests(prompts, self._sampling, seed, self._world)
            future = self._thread.submit(self._writers.write, requests, weights)
            self._asked[seed] = [prompt.uid for prompt in prompts], future
