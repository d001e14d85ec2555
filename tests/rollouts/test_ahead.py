"""Which weights write which batch: of the step itself, or of exactly `staleness` steps before."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

from tests.toy import toy_model
from tests.trainers.toy_runs import rl_config
from unmask.data.shuffled import Shuffled
from unmask.distributed.world import World
from unmask.engine.llm import LLM
from unmask.rollouts.ahead import Ahead, Request
from unmask.rollouts.collect import write_trajectories
from unmask.rollouts.weight_broadcast import Weights
from unmask.seeds import derive_seed
from unmask.types import Prompt, Trajectory

STEPS = 6
PROMPTS = [Prompt("toy", uid, (), tuple(range(2, 5 + uid))) for uid in range(5)]


@dataclass
class Writers:
    """One engine of its own that takes the weights it is given."""

    llm: LLM
    versions: list[int] = field(default_factory=list)
    offered: list[int] = field(default_factory=list)
    is_closed: bool = False

    def write(self, requests: Sequence[Request], weights: Weights) -> list[Trajectory]:
        self.versions.append(weights.version)
        self.llm.engine.update_weights(weights.tensors.items(), weights.version)
        prompts, params = zip(*requests, strict=True)
        return self.llm.complete(prompts, params)

    def offer(self, weights: Weights) -> None:
        self.offered.append(weights.version)

    def metrics(self) -> dict[str, float]:
        return {"of_writers": 1.0}

    def close(self) -> None:
        self.is_closed = True


def run(
    place: Path, staleness: int, start: int = 1
) -> tuple[list[list[Trajectory]], Writers, list[dict[str, float]]]:
    """Take steps that change the weights, and return each step's trajectories."""
    words = [f"steps={STEPS}", "rollout.workers=1", f"rollout.staleness={staleness}"]
    config = rl_config(place, *words, "loss.max_importance=2")
    llm, writers = LLM(toy_model()), Writers(LLM(toy_model(7)))
    source = Shuffled(PROMPTS, seed=3)
    source.draw((start - 1) * 3)
    for step in range(1, start):
        train(llm, step)

    def upcoming(ahead: int) -> list[Prompt]:
        return [draw.item for draw in source.ahead((ahead - 1) * 3, 3)]

    found: list[list[Trajectory]] = []
    metrics: list[dict[str, float]] = []
    with Ahead(config, llm, writers, upcoming) as ahead:
        for step in range(start, STEPS + 1):
            prompts = [draw.item for draw in source.draw(3)]
            found.append(ahead.write(step, prompts, derive_seed(config.run.seed, step)))
            metrics.append(ahead.metrics())
            train(llm, step)
    assert writers.is_closed
    return found, writers, metrics


def train(llm: LLM, step: int) -> None:
    """Change the weights as an update would."""
    with torch.no_grad():
        for parameter in llm.model.parameters():
            parameter.mul_(1 + step / 20)
    llm.engine.update_weights()


def by_plain_loop(place: Path, staleness: int) -> list[list[Trajectory]]:
    """Return the trajectories of each step, written in this thread with weights of that many steps before."""
    config, source = rl_config(place), Shuffled(PROMPTS, seed=3)
    sampling = config.sampling.to_params(n=config.rollout.responses)
    found: list[list[Trajectory]] = []
    for step in range(1, STEPS + 1):
        llm = LLM(toy_model())
        for earlier in range(1, step - staleness):
            train(llm, earlier)
        prompts = [draw.item for draw in source.draw(3)]
        seed = derive_seed(config.run.seed, step)
        found.append(write_trajectories(llm, prompts, sampling, seed))
    return found


@pytest.mark.parametrize("staleness", [0, 1, 2, 9])
def test_every_batch_is_as_old_as_the_config_allows(staleness: int, tmp_path: Path) -> None:
    found, writers, metrics = run(tmp_path, staleness)
    assert found == by_plain_loop(tmp_path, staleness)
    expected = [max(0, step - 1 - staleness) for step in range(1, STEPS + 1)]
    assert writers.versions == expected
    assert [{t.policy_version for t in batch} for batch in found] == [{v} for v in expected]
    ages = [step - version for step, version in enumerate(expected)]
    assert [line["staleness_max"] for line in metrics] == ages
    assert all(line["of_writers"] == 1 for line in metrics)
    assert writers.offered == list(range(STEPS))


def test_a_resumed_run_asks_again_with_the_weights_it_has(tmp_path: Path) -> None:
    """The prompts and seeds are the same; the first batches are less stale, the others as before."""
    whole, _, _ = run(tmp_path, 2)
    parts, writers, metrics = run(tmp_path, 2, start=3)
    assert [line["staleness_max"] for line in metrics] == [0, 1, 2, 2]
    assert writers.versions == [2, 2, 2, 3]

    def asked(batches: list[list[Trajectory]]) -> list[list[tuple[int, int]]]:
        return [[(t.prompt.uid, t.sampling.seed) for t in batch] for batch in batches]

    assert asked(parts) == asked(whole[2:])
    assert parts[-1] == whole[-1]


def test_a_resumed_run_without_stale_rollouts_is_the_run_that_was_not_interrupted(
    tmp_path: Path,
) -> None:
    assert run(tmp_path, 0, start=3)[0] == run(tmp_path, 0)[0][2:]


def test_a_rank_without_a_prompt_writes_nothing(tmp_path: Path) -> None:
    """The last round of `filter.refill` may draw fewer prompts than there are ranks."""

    class Idle(Writers):
        def write(self, requests: Sequence[Request], weights: Weights) -> list[Trajectory]:
            return super().write(requests, weights) if requests else []

    config = rl_config(tmp_path, "rollout.workers=2")
    llm, writers = LLM(toy_model()), Idle(LLM(toy_model()))
    with Ahead(config, llm, writers, lambda _: [], World(rank=1, size=2)) as ahead:
        assert len(ahead.write(1, PROMPTS[:2], 5)) == config.rollout.responses
        assert ahead.write(1, PROMPTS[:1], 6) == []


def test_tokens_of_older_weights_than_allowed_are_never_trained_on(tmp_path: Path) -> None:
    class Late(Writers):
        def write(self, requests: Sequence[Request], weights: Weights) -> list[Trajectory]:
            first, *others = super().write(requests, weights)
            versions = (weights.version - 1,) * len(first.canvas_ids)
            return [replace(first, policy_versions=versions), *others]

    config = rl_config(tmp_path, "rollout.workers=1")
    llm = LLM(toy_model())
    train(llm, 1)
    with (
        Ahead(config, llm, Late(LLM(toy_model())), lambda _: []) as ahead,
        pytest.raises(AssertionError, match="older weights"),
    ):
        ahead.write(2, PROMPTS[:3], 5)


def test_an_error_of_a_batch_ends_the_run_at_its_step(tmp_path: Path) -> None:
    class Broken(Writers):
        def write(self, requests: Sequence[Request], weights: Weights) -> list[Trajectory]:
            raise ValueError("the second batch") if self.versions else self.note(weights)

        def note(self, weights: Weights) -> ValueError:
            self.versions.append(weights.version)
            return ValueError("the first batch")

    config = rl_config(tmp_path, "rollout.workers=1")
    with Ahead(config, LLM(toy_model()), Broken(LLM(toy_model())), lambda _: []) as ahead:
        for name in ("first", "second"):
            with pytest.raises(ValueError, match=f"the {name} batch"):
                ahead.write(1, PROMPTS[:3], 5)
