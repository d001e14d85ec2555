"""Workers on a real Ray cluster of this machine; the suite skips them without the extra `ray`."""

import os
import random
import signal
import time
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from threading import Lock, Timer
from typing import Any

import pytest
import torch

import unmask.rollouts.workers as module
from tests.invariants.test_law_6_resume import interrupt, left_behind, short_rl
from tests.toy import toy_model
from tests.trainers.toy_runs import metrics, rl_config, share_of_sevens
from unmask.distributed.world import World
from unmask.engine.llm import LLM
from unmask.rollouts.build import open_rollouts
from unmask.trainers.rl import train_rl
from unmask.types import Prompt

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray")
# In the test of each: 20 take a minute or more.
KILLS = int(os.environ.get("UNMASK_KILLS", "3"))
# What the clock, or the workers themselves, decide.
OF_WORKERS = ("staleness", "staleness_max", "worker_restarts", "weight_sync_bytes")
STALE = ("rollout.staleness=1", "loss.max_importance=2")


@pytest.fixture(scope="module")
def cluster() -> Generator[Any, None, None]:
    """Start one cluster for all tests, as a run would."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        before = dict(os.environ), signal.getsignal(signal.SIGTERM)
        with module._cluster(4, torch.device("cpu")) as ray:
            assert (dict(os.environ), signal.getsignal(signal.SIGTERM)) == before
            yield ray


def without(lines: list[dict[str, Any]]) -> None:
    """Remove the metrics that only runs with workers have."""
    for line in lines:
        for name in OF_WORKERS:
            line.pop(name, None)


def left(run: Path) -> tuple[list[dict[str, Any]], bytes, bytes]:
    """Return everything of a run that must not depend on who wrote its responses, or when."""
    lines = metrics(run)
    without(lines)
    trajectories = (run / "trajectories.jsonl").read_bytes()
    return lines, trajectories, (run / "model" / "model.safetensors").read_bytes()


def train(place: Path, name: str, *words: str) -> Path:
    settings = ["run.trajectories=99", "filter.drop_uniform=false", "minibatches=2", *words]
    return train_rl(rl_config(place, *settings, run=name), resume=True).parent


def processes() -> list[int]:
    """Return the workers' processes that the cluster of this process has."""
    found: list[int] = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            name = (place / "cmdline").read_bytes()
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            grandparent = int(
                Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1]
            )
        except (OSError, IndexError, ValueError):
            continue  # it has ended
        if name.startswith(b"ray::RolloutWorker") and grandparent == os.getpid():
            found.append(int(place.name))
    return found


def wait_for_no_process() -> None:
    """Wait until the workers have ended, which they do after they were asked to."""
    limit = time.monotonic() + 120
    while processes():
        assert time.monotonic() < limit
        time.sleep(0.05)


@needs_ray
@pytest.mark.parametrize("words", [[], ["lora.rank=2"], ["filter.refill=2", "filter.high=0.05"]])
def test_without_staleness_the_run_is_the_synchronous_one_to_the_bit(
    words: list[str], cluster: Any, tmp_path: Path
) -> None:
    own = left(train(tmp_path, "own", "steps=3", *words))
    run = train(tmp_path, "workers", "steps=3", "rollout.workers=2", *words)
    assert left(run) == own
    lines = metrics(run)
    assert [line["staleness_max"] for line in lines] == [0, 0, 0]
    assert lines[0]["weight_sync_bytes"] > 0
    wait_for_no_process()


@needs_ray
def test_a_run_with_stale_rollouts_is_repeatable(cluster: Any, tmp_path: Path) -> None:
    """Also with another number of workers; every batch is as old as it may be."""
    stale = (*STALE, "steps=4")
    first = train(tmp_path, "first", "rollout.workers=1", *stale)
    second = train(tmp_path, "second", "rollout.workers=3", *stale)
    assert left(first) == left(second)
    lines = metrics(first)
    assert [line["staleness_max"] for line in lines] == [0, 1, 1, 1]
    assert lines[0]["importance_max"] == pytest.approx(1, abs=1e-4)
    assert all("logprob_gap" not in line for line in lines)
    resumed = train(tmp_path, "resumed", "rollout.workers=1", *STALE, "steps=2")
    assert left(resumed)[0] == left(first)[0][:2]
    lines = metrics(train(tmp_path, "resumed", "rollout.workers=1", *stale))
    assert [line["staleness_max"] for line in lines] == [0, 1, 0, 1]


@needs_ray
def test_with_partial_rollouts_no_token_is_older_than_allowed(cluster: Any, tmp_path: Path) -> None:
    words = (*STALE, "rollout.partial=true", "rollout.workers=2", "steps=4", "rollout.responses=16")
    lines = metrics(train(tmp_path, "run", *words))
    assert all(0 <= line["staleness"] <= line["staleness_max"] <= 1 for line in lines)


@needs_ray
def test_a_run_that_is_stopped_and_resumed_is_the_one_that_is_not(
    cluster: Any, tmp_path: Path
) -> None:
    """By an error and by a signal, with other workers after each."""
    whole = left_behind(short_rl(tmp_path, "whole"))
    for how, count in (("raise:20", 0), ("SIGTERM:26", 1)):
        interrupt(short_rl, tmp_path, "parts", how, f"rollout.workers={count}")
    parts = left_behind(short_rl(tmp_path, "parts", "rollout.workers=2"))
    without(parts["metrics"])
    assert parts == whole
    wait_for_no_process()


class Killer:
    """Ends random workers a moment after they were started, given weights or requests, and when idle."""

    def __init__(self, total: int) -> None:
        self.total, self.count, self.rng = total, 0, random.Random(0)
        self.lock = Lock()

    def kill(self) -> None:
        with self.lock:
            found = processes()
            if self.count < self.total and found:
                os.kill(self.rng.choice(found), signal.SIGKILL)
                self.count += 1

    def maybe(self, chance: float) -> None:
        """Kill in a moment, with this probability."""
        if self.rng.random() < chance:
            Timer(self.rng.random() / 3, self.kill).start()

    def watch(self, patch: pytest.MonkeyPatch, name: str, chance: float) -> None:
        """Kill after some of the calls of a method of the pool."""
        inner = getattr(module.WorkerPool, name)

        def call(pool: module.WorkerPool, *arguments: Any) -> Any:
            self.maybe(chance)
            return inner(pool, *arguments)

        patch.setattr(module.WorkerPool, name, call)


KILLER: list[Killer] = []


def reward(prompt: Prompt, response: str) -> float:
    """Reward sevens, and kill a worker now and then."""
    if KILLER and response.startswith("7"):
        KILLER[0].kill()
    return share_of_sevens(prompt, response)


@needs_ray
@pytest.mark.parametrize(("staleness", "kills"), [(0, 2), (1, KILLS)])
def test_workers_that_are_killed_at_any_moment_change_nothing(
    staleness: int, kills: int, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"task.reward={__name__}:reward", "rollout.workers=2", f"steps={2 + kills // 2}"]
    words += STALE if staleness else ()
    undisturbed = left(train(tmp_path, "undisturbed", *words))
    KILLER.append(killer := Killer(kills))
    for name, chance in (("_start", 0.1), ("_send", 0.3), ("_ask", 0.4)):
        killer.watch(monkeypatch, name, chance)
    try:
        run = train(tmp_path, "killed", *words)
    finally:
        KILLER.clear()
    assert killer.count == kills
    assert left(run) == undisturbed


@needs_ray
def test_a_worker_that_cannot_be_restarted_is_named(cluster: Any, tmp_path: Path) -> None:
    config = rl_config(tmp_path, "rollout.workers=1")
    llm = LLM(config.model.path)
    prompts = [Prompt("toy", 0, (), (2, 3, 4))]
    with open_rollouts(config, llm, lambda _: []) as rollouts:
        assert len(rollouts.write(1, prompts, 1)) == 4
        (tmp_path / "checkpoint").rename(tmp_path / "moved")
        (process,) = processes()
        os.kill(process, signal.SIGKILL)
        with pytest.raises(ValueError, match=r"rollout worker 0: .*checkpoint"):
            rollouts.write(2, prompts, 2)
    wait_for_no_process()


@needs_ray
def test_a_worker_that_ends_again_and_again_ends_the_run(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = rl_config(tmp_path, "rollout.workers=2")
    monkeypatch.setattr(module, "TRIES", 2)
    ask = module.WorkerPool._ask

    def ask_and_kill(self: module.WorkerPool, index: int, requests: Any) -> Any:
        if index == 1:
            self._ray.kill(self._workers[1])
        return ask(self, index, requests)

    monkeypatch.setattr(module.WorkerPool, "_ask", ask_and_kill)
    with (
        open_rollouts(config, LLM(config.model.path), lambda _: []) as rollouts,
        pytest.raises(
            RuntimeError, match="worker 1 cannot be restarted: it failed 2 times in a row"
        ),
    ):
        rollouts.write(1, [Prompt("toy", 0, (), (2, 3, 4))], 1)


@needs_ray
def test_a_model_that_workers_cannot_load_is_refused_before_the_run_begins(
    cluster: Any, tmp_path: Path
) -> None:
    config = rl_config(tmp_path, "rollout.workers=1")
    llm = LLM(config.model.path)
    llm.model.source = tmp_path / "absent"
    with (
        pytest.raises(ValueError, match=r"rollout worker 0: .*absent"),
        open_rollouts(config, llm, lambda _: []),
    ):
        pass


def test_without_ray_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    config = rl_config(tmp_path, "rollout.workers=3")
    with (
        pytest.raises(ValueError, match=r'workers = 3 needs Ray: pip install "unmask\[ray\]"'),
        open_rollouts(config, LLM(toy_model()), lambda _: []),
    ):
        pass


def test_workers_take_the_gpus_that_the_learner_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,7")
    for own, free in (("cuda:0", "5,7"), ("cuda", "5,7"), ("cuda:1", "3,7")):
        found = module._free_devices(2, torch.device(own))
        assert found == {"CUDA_VISIBLE_DEVICES": free}
    assert module._free_devices(2, torch.device("cpu")) == {}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    with pytest.raises(ValueError, match="workers = 2: each takes a GPU, and this machine has 1"):
        module._free_devices(2, torch.device("cuda"))


def test_ranks_share_the_gpus_that_none_of_them_trains_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,5")
    for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    for rank, free in enumerate(("2,3", "4,5")):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        found = module._free_devices(2, torch.device("cuda", rank))
        assert found == {"CUDA_VISIBLE_DEVICES": free}
    with pytest.raises(ValueError, match="workers = 6: each takes a GPU, and this machine has 4"):
        module._free_devices(3, torch.device("cuda", 1))


def test_ranks_that_cannot_have_equally_many_workers_are_refused(tmp_path: Path) -> None:
    config = rl_config(tmp_path, "rollout.workers=3")
    with (
        pytest.raises(
            ValueError, match="the 2 processes of the run cannot have equally many; set 4"
        ),
        module.open_workers(config, LLM(toy_model()), World(0, 2)),
    ):
        pass
