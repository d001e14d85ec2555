"""Rollout workers on Ray: engines in processes of their own, on this machine or on others.

Ray starts the workers, places them on a cluster's machines and reports those that end. Everything that
decides what is written is here: which worker writes which responses, with which weights. The responses of a
batch are dealt out in turn; one that a worker did not return before it ended is asked for again, from its
successor, which first receives the same weights. A response depends on its request and the weights alone, so
the batch is the one that would have been written undisturbed.

Without `RAY_ADDRESS` a cluster of this machine is started, which listens on the loopback interface only, and
ended with the run. This is the one module that imports Ray, when it is opened.
"""

import logging
import os
import signal
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from threading import Thread, current_thread, main_thread
from typing import Any, TypeVar

import torch

from unmask.configs.rl import RLConfig
from unmask.distributed.environment import place
from unmask.distributed.world import ALONE, World
from unmask.engine.llm import LLM
from unmask.rollouts.ahead import Request
from unmask.rollouts.weight_broadcast import (
    LEARNER,
    Group,
    Meeting,
    Weights,
    join,
    open_store,
    send,
)
from unmask.rollouts.worker import RolloutWorker, WorkerSpec
from unmask.types import Trajectory

T = TypeVar("T")

# Most failures of a worker in a row, without a response in between.
TRIES = 10
# Seconds for a worker to load its model, to answer, and to report a transfer that failed.
START_S, ANSWER_S, GRACE_S = 1800.0, 60.0, 5.0
# Seconds between two looks for new weights, or at the learner's side of a transfer.
POLL_S = 0.05
# A cluster of this machine: it holds requests and trajectories, never weights.
OBJECT_STORE_BYTES = 256 * 2**20
# Ray's own setting, named after the systems where it is the default: 0 binds every server to 127.0.0.1.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# One thread writes, one receives weights, one answers.
NUM_THREADS = 3


class WorkerLostError(Exception):
    """A worker ended, or the transfer of weights to it failed."""


@contextmanager
def open_workers(
    config: RLConfig, llm: LLM, world: World = ALONE
) -> Generator["WorkerPool", None, None]:
    """Start the workers of a run; leaving the `with` ends them, and a cluster that was started for them.

    Args:
        config: of the run.
        llm: the learner's model, whose files and device the workers use.
        world: the ranks, each of which has as many workers.

    Raises:
        ValueError: Ray is not installed, there are too few devices, a worker cannot load the model, or the
            ranks cannot share the workers.
        RuntimeError: a worker does not start.
    """
    count, left = divmod(config.rollout.workers, world.size)
    if left:
        world.fail(
            f"rollout.workers = {config.rollout.workers}: the {world.size} processes of the run cannot have "
            f"equally many; set {count * world.size + world.size}"
        )
    with ExitStack() as stack:
        with world.together("rollout workers"):
            ray = stack.enter_context(_cluster(count, llm.model.device))
            pool = WorkerPool(ray, config, llm, count)
            stack.callback(pool.close)
            pool.start()
        yield pool


class WorkerPool:
    """The workers of a run, and the process group over which they receive weights."""

    def __init__(self, ray: Any, config: RLConfig, llm: LLM, count: int) -> None:
        """Start no worker yet.

        Args:
            ray: the module, connected to a cluster.
            config: of the run.
            llm: the learner's.
            count: number of workers.
        """
        self._ray, self._config, self._llm = ray, config, llm
        self._device: torch.device = llm.model.device
        self._source = llm.model.source
        is_cuda = self._device.type == "cuda"
        options = {"num_cpus": 1, "num_gpus": int(is_cuda), "max_concurrency": NUM_THREADS}
        self._kind = ray.remote(RolloutWorker).options(**options)
        self._host: str = ray.util.get_node_ip_address()
        self._store, self._port = open_store(self._host)  # kept: it ends with the last reference
        self._workers: list[Any] = [None] * count
        self._loads: list[Any] = [None] * count
        self._held: list[int | None] = [None] * count  # version of each worker's weights
        self._num_started, self._failures = [0] * count, [0] * count
        self._meeting: Meeting | None = None
        self._members: list[tuple[int, int]] = []  # worker, and how often it was started
        self._group: Group = None
        self._num_groups = 0
        self._offered: Weights | None = None
        self._is_closed = False
        self._timeout_s = config.distributed.timeout_minutes * 60
        self._sync_s, self._sync_bytes = 0.0, 0

    def start(self) -> None:
        """Start all workers and wait until they have loaded the model."""
        for index in range(len(self._workers)):
            self._start(index)
        for index in range(len(self._workers)):
            with suppress(WorkerLostError):  # the first batch starts it again
                self._loaded(index)

    def write(self, requests: Sequence[Request], weights: Weights) -> list[Trajectory]:
        """Return one trajectory per request, in order, written with these weights, or newer ones on offer.

        Raises:
            ValueError: a response could not be written.
            RuntimeError: a worker ended and could not be started again.
        """
        count = len(self._workers)
        shares = [requests[index::count] for index in range(count)]
        weights = self._newest(weights)
        self._equip(range(count), weights)
        running = {self._ask(index, share): index for index, share in enumerate(shares) if share}
        found: dict[int, list[Trajectory]] = {}
        while running:
            wait_s = POLL_S if self._config.rollout.partial else None
            done, _ = self._ray.wait(list(running), num_returns=1, timeout=wait_s)
            for reference in done:
                index = running.pop(reference)
                try:
                    found[index] = self._result(reference)
                    self._failures[index] = 0
                except WorkerLostError as error:
                    self._replace([index], str(error))
                    self._equip([index], weights)
                    running[self._ask(index, shares[index])] = index
            if running and self._newest(weights) is not weights:
                weights = self._newest(weights)
                self._equip(range(count), weights)
        written = (found[place % count][place // count] for place in range(len(requests)))
        # With the prompts as graders need them.
        return [
            replace(one, prompt=asked) for (asked, _), one in zip(requests, written, strict=True)
        ]

    def offer(self, weights: Weights) -> None:
        """Let unfinished responses continue under newer weights, where the run allows it."""
        if self._config.rollout.partial:
            self._offered = weights

    def metrics(self) -> dict[str, float]:
        """Return restarts so far, and what the transfer of weights took since the last call."""
        restarts = sum(self._num_started) - len(self._workers)
        found = {
            "worker_restarts": restarts,
            "weight_sync_s": self._sync_s,
            "weight_sync_bytes": self._sync_bytes,
        }
        self._sync_s, self._sync_bytes = 0.0, 0
        return found

    def close(self) -> None:
        """End all workers; a `write` that runs in another thread raises."""
        self._is_closed = True
        for worker in self._workers:
            if worker is not None:
                self._ray.kill(worker)

    def _newest(self, weights: Weights) -> Weights:
        offered = self._offered
        return offered if offered is not None and offered.version > weights.version else weights

    def _ask(self, index: int, requests: Sequence[Request]) -> Any:
        # Graders keep arbitrary objects in `reference`, which the model never reads.
        bare = [(replace(prompt, reference=None), params) for prompt, params in requests]
        return self._workers[index].write.remote(bare)

    def _start(self, index: int) -> None:
        if self._is_closed:
            raise RuntimeError("the rollout workers are closed")
        self._num_started[index] += 1
        self._held[index] = None
        self._workers[index] = self._kind.remote()
        self._loads[index] = self._workers[index].load.remote(self._spec())

    def _spec(self) -> WorkerSpec:
        config = self._config
        # Any files of this model do, because all trained weights are sent; the run's own checkpoints go.
        found = [
            place for place in (self._source, self._llm.model.source) if place and place.exists()
        ]
        where = {"path": str((*found, self._source)[0]), "device": self._device.type}
        model = config.model.model_copy(update=where)
        return WorkerSpec(model, config.engine, config.lora, config.run.threads)

    def _loaded(self, index: int) -> None:
        """Wait until a worker has loaded the model.

        Raises:
            ValueError: it cannot.
            RuntimeError: it does not start.
            WorkerLostError: it ended.
        """
        try:
            self._result(self._loads[index], START_S)
        except ValueError as error:
            raise ValueError(f"rollout worker {index}: {error}") from error
        except self._ray.exceptions.GetTimeoutError as error:
            raise RuntimeError(
                f"rollout worker {index} did not start within {START_S:.0f} s: the Ray cluster has no free "
                f"{'GPU' if self._device.type == 'cuda' else 'CPU'} for it; lower rollout.workers = "
                f"{len(self._workers)}"
            ) from error

    def _result(self, reference: Any, timeout_s: float | None = None) -> Any:
        """Return the result of a call.

        Raises:
            ValueError: raised by the call.
            WorkerLostError: the worker ended.
        """
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference, timeout=timeout_s)
        except errors.RayTaskError as error:
            if isinstance(error.cause, ValueError):
                raise ValueError(str(error.cause)) from error
            raise
        except errors.RayActorError as error:
            raise WorkerLostError("its process ended") from error

    def _equip(self, indices: Iterable[int], weights: Weights) -> None:
        """Give workers these weights, and start workers again that end meanwhile.

        Raises:
            RuntimeError: a worker ends again and again.
        """
        while behind := [index for index in indices if self._held[index] != weights.version]:
            try:
                for index in behind:
                    self._loaded(index)
                self._send(behind, weights)
            except WorkerLostError as error:
                self._replace(behind, str(error))

    def _replace(self, indices: Iterable[int], reason: str) -> None:
        """Start those workers again that have ended.

        Raises:
            RuntimeError: this was tried too often since the last responses of a worker.
        """
        for index in indices:
            self._failures[index] += 1
            if self._failures[index] > TRIES:
                raise RuntimeError(
                    f"rollout worker {index} cannot be restarted: it failed {TRIES} times in a row "
                    f"({reason}); Ray keeps its log in /tmp/ray/session_latest/logs of its machine"
                )
            try:
                self._result(self._workers[index].ping.remote(), ANSWER_S)
            except (WorkerLostError, self._ray.exceptions.GetTimeoutError):
                self._ray.kill(self._workers[index])  # one that does not answer holds its place
                self._start(index)

    def _send(self, indices: Sequence[int], weights: Weights) -> None:
        """Send weights to workers.

        Raises:
            WorkerLostError: one of them ended, or the process group failed.
        """
        began = time.monotonic()
        meeting = self._meet(indices)
        calls: list[Any] = []
        for rank, index in enumerate(indices, LEARNER + 1):
            self._held[index] = None
            arguments = (meeting, rank, weights.layout, weights.version)
            calls.append(self._workers[index].receive.remote(*arguments))
        own = _in_thread(lambda: self._broadcast(meeting, weights))
        try:
            self._group = self._finish(calls, own)
        except WorkerLostError:
            self._group = self._meeting = None
            _, stuck = self._ray.wait(calls, num_returns=len(calls), timeout=GRACE_S)
            for index, call in zip(indices, calls, strict=True):
                if call in stuck:
                    self._ray.kill(self._workers[index])
            raise
        for index in indices:
            self._held[index] = weights.version
        self._sync_s += time.monotonic() - began
        self._sync_bytes += weights.num_bytes

    def _meet(self, indices: Sequence[int]) -> Meeting:
        """Return the meeting of these workers: the last one if they are its members."""
        members = [(index, self._num_started[index]) for index in indices]
        if self._meeting is None or members != self._members:
            self._num_groups += 1
            name, size = f"weights-{self._num_groups}", len(members) + 1
            kind = self._device.type
            self._meeting = Meeting(self._host, self._port, name, size, kind, self._timeout_s)
            self._members, self._group = members, None
        return self._meeting

    def _broadcast(self, meeting: Meeting, weights: Weights) -> Group:
        """Do the learner's part of a transfer, and return the group."""
        group = self._group or join(meeting, LEARNER)
        send(group, weights, self._device)
        return group

    def _finish(self, calls: Sequence[Any], own: Future[Group]) -> Group:
        """Wait for both sides of a transfer.

        Raises:
            WorkerLostError: one of them failed.
        """
        errors = self._ray.exceptions
        left = list(calls)
        while left and not (own.done() and own.exception()):
            done, left = self._ray.wait(left, num_returns=1, timeout=POLL_S)
            for call in done:
                try:
                    self._result(call)
                except errors.RayTaskError as error:
                    raise WorkerLostError(f"receiving weights: {error.cause}") from error
        try:
            return own.result(self._timeout_s)
        except (RuntimeError, TimeoutError) as error:
            raise WorkerLostError(f"sending weights: {error}") from error


@contextmanager
def _cluster(count: int, device: torch.device) -> Generator[Any, None, None]:
    """Connect to the cluster of `RAY_ADDRESS`, or start one on this machine; return the module `ray`."""
    if find_spec("ray") is None:
        raise ValueError(
            f'rollout.workers = {count} needs Ray: pip install "unmask[ray]", or set '
            "rollout.workers = 0"
        )
    is_local = not os.environ.get("RAY_ADDRESS")
    # Not Ray's notes on starting: a run has its own console.
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    variables = {"RAY_USAGE_STATS_ENABLED": "0"}
    if is_local:
        variables |= LOOPBACK | _free_devices(count, device)
        # `num_cpus` is a count of workers, not of processors.
        options |= {"address": "local", "num_cpus": count, "include_dashboard": False}
        options |= {"object_store_memory": OBJECT_STORE_BYTES}
    with _kept_state():
        os.environ |= variables
        ray: Any = import_module("ray")
        is_ours = not ray.is_initialized()
        if is_ours:
            logging.getLogger("ray").setLevel(logging.ERROR)
            ray.init(**options)
    try:
        yield ray
    finally:
        if is_ours:
            ray.shutdown()


def _free_devices(count: int, own: torch.device) -> dict[str, str]:
    """Return the variable that shows a cluster of this machine GPUs that no trainer has.

    With several ranks on this machine each has the GPU of its LOCAL_RANK and starts a cluster of its own, so the
    GPUs behind those of the trainers are shared out.

    Raises:
        ValueError: there are fewer than workers.
    """
    if own.type != "cuda":
        return {}
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = shown.split(",") if shown else [str(n) for n in range(torch.cuda.device_count())]
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # of the launcher
    trainers = range(ranks) if ranks > 1 else [own.index or 0]
    free = [name for number, name in enumerate(names) if number not in trainers]
    if len(free) < count * ranks:
        raise ValueError(
            f"rollout.workers = {count * ranks}: each takes a GPU, and this machine has {len(free)} "
            "apart from the trainer's; lower it, or name a larger Ray cluster by RAY_ADDRESS"
        )
    first = count * place().local_rank
    return {"CUDA_VISIBLE_DEVICES": ",".join(free[first : first + count])}


@contextmanager
def _kept_state() -> Generator[None, None, None]:
    """Keep the environment, and the handler of SIGTERM, which Ray replaces, as they are."""
    variables, handler = dict(os.environ), signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        for name in os.environ.keys() - variables:
            del os.environ[name]
        os.environ |= variables
        if current_thread() is main_thread():
            signal.signal(signal.SIGTERM, handler)


def _in_thread(function: Callable[[], T]) -> Future[T]:
    """Run a function in a thread that the end of the process does not wait for."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, daemon=True, name="weights").start()
    return future
