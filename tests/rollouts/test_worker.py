"""A worker writes what the learner's engine writes, and takes new weights between two passes."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import Event

import pytest
import torch

from tests.toy import toy_model
from tests.trainers.toy_runs import rl_config
from unmask.engine.llm import LLM
from unmask.models.lora import LoRAParams, adapters, add_lora
from unmask.rollouts.weight_broadcast import Group, Meeting, join, open_store, send, trained_weights
from unmask.rollouts.worker import RolloutWorker, WorkerSpec
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt, Trajectory

CPU = torch.device("cpu")
REQUESTS = [
    (Prompt("toy", n, (), tuple(range(2, 6 + n))), SamplingParams(max_tokens=20, seed=n, stop_token_ids=()))
    for n in range(6)
]  # fmt: skip


class Learner:
    """The learner's side of a transfer to one worker, in a thread of this process."""

    def __init__(self, worker: RolloutWorker) -> None:
        self.worker = worker
        self.store, port = open_store("127.0.0.1")
        self.meeting = Meeting("127.0.0.1", port, "one", 2, "cpu", 20)
        self.group: Group = None

    def send(self, llm: LLM, version: int) -> None:
        weights = trained_weights(llm.model, version, copies=False)
        with ThreadPoolExecutor(1) as threads:
            received = threads.submit(self.worker.receive, self.meeting, 1, weights.layout, version)
            self.group = self.group or join(self.meeting, 0)
            send(self.group, weights, CPU)
            received.result()


def worker_of(place: Path, *words: str) -> RolloutWorker:
    """Return a worker that has loaded the toy checkpoint."""
    config = rl_config(place, *words)
    worker = RolloutWorker()
    worker.load(WorkerSpec(config.model, config.engine, config.lora, 1))
    return worker


def learner_of(place: Path, scale: float) -> LLM:
    """Return the toy checkpoint with other weights."""
    llm = LLM(place / "checkpoint")
    with torch.no_grad():
        for parameter in llm.model.parameters():
            parameter.mul_(scale)
    return llm


def by(llm: LLM, version: int) -> list[Trajectory]:
    found = llm.complete(*zip(*REQUESTS, strict=True))
    return [replace(trajectory, policy_version=version) for trajectory in found]


def test_a_worker_writes_what_the_learners_engine_writes(tmp_path: Path) -> None:
    worker = worker_of(tmp_path)
    learner = Learner(worker)
    for version, scale in ((3, 1.0), (4, 1.5), (9, 2.0)):  # over one process group
        llm = learner_of(tmp_path, scale)
        learner.send(llm, version)
        assert worker.write(REQUESTS) == by(llm, version)


def test_adapters_are_received_on_the_weights_that_were_loaded(tmp_path: Path) -> None:
    worker = worker_of(tmp_path, "lora.rank=2", 'lora.targets=["attention"]')
    llm = LLM(tmp_path / "checkpoint")
    add_lora(llm.model, LoRAParams(targets=("attention",), rank=2), seed=5)
    with torch.no_grad():
        for adapter in adapters(llm.model).values():
            adapter.lora_b.normal_(generator=torch.Generator().manual_seed(1))
    Learner(worker).send(llm, 1)
    assert worker.write(REQUESTS) == by(llm, 1)


def test_unfinished_responses_continue_under_weights_that_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = worker_of(tmp_path)
    learner = Learner(worker)
    old, new = learner_of(tmp_path, 1.0), learner_of(tmp_path, 1.5)
    learner.send(old, 0)
    assert worker._llm is not None
    ticks, tick, third, waits = count(1), worker._llm.engine.tick, Event(), Event()

    def slow_tick() -> Sequence[object]:
        if next(ticks) == 3:
            third.set()
            assert waits.wait(60)
        return tick()

    monkeypatch.setattr(worker._llm.engine, "tick", slow_tick)
    with ThreadPoolExecutor(2) as threads:
        written = threads.submit(worker.write, REQUESTS)
        assert third.wait(60)
        sent = threads.submit(learner.send, new, 1)
        while not worker._num_waiting:
            pass
        waits.set()
        sent.result()
        found = written.result()
    for trajectory, before in zip(found, by(old, 0), strict=True):
        # Three passes are of the old weights, each of the others is of the new ones.
        versions = tuple(0 if 0 < step <= 3 else 1 for step in trajectory.step_map)
        assert trajectory.policy_versions == versions
        early = [n for n, step in enumerate(trajectory.step_map) if 0 < step <= 3]
        assert early == [n for n, step in enumerate(before.step_map) if 0 < step <= 3]
        assert all(trajectory.canvas_ids[n] == before.canvas_ids[n] for n in early)
    assert worker.write(REQUESTS) == by(new, 1)


def test_a_request_that_cannot_be_written_is_an_error_with_its_reason(tmp_path: Path) -> None:
    worker = worker_of(tmp_path)
    prompt, sampling = REQUESTS[0]
    with pytest.raises(ValueError, match="lower max_tokens"):
        worker.write([(prompt, replace(sampling, max_tokens=1000))])


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    worker = worker_of(tmp_path)
    with pytest.raises(ValueError, match=r"model\.path must name the same files"):
        worker.receive(
            Meeting("127.0.0.1", 1, "none", 2, "cpu", 1),
            1,
            trained_weights(toy_model(width=64), 0, copies=False).layout,
            0,
        )
