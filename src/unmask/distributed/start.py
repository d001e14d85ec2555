"""The start and the end of a run of several processes.

    with open_world(config) as world:
        train_rl(config, resume, world)

Before a process group is made, every rank puts what it found into the launcher's store (`Facts`), and rank 0
decides from all of them: a mistake that the user can correct is one message, printed by rank 0, and every rank ends
with exit code 2. At the end ranks wait for rank 0, because the launcher stops all processes when the first
one ends with an error.
"""

import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store  # pyright: ignore[reportPrivateImportUsage]
from torch.distributed.rendezvous import rendezvous

from unmask import __version__
from unmask.configs.eval import EvalConfig
from unmask.configs.generate import GenerateConfig
from unmask.configs.load import dump, flatten
from unmask.configs.training import PolicyConfig
from unmask.distributed.environment import Place, place
from unmask.distributed.world import ALONE, AgreedError, World, world_of_group
from unmask.runs.directory import is_empty
from unmask.runs.signals import STOPPING, Stopped

Config = PolicyConfig | EvalConfig | GenerateConfig
WITHOUT_CONFIG_S = 300.0  # time limit of a rank whose config could not be read
SEEN_S = 10.0  # a file on a network file system may take as long to appear on another machine
POLL_S = 0.02  # between two looks for a value of another rank
ENDED_S = 5.0  # a rank that still runs notices within this time that another one has failed
FOUND = "found"  # holds what the first attempt found in the run directory
# In errors that torch's collectives raise when another process has gone or does not answer.
LOST = re.compile(r"gloo|NCCL|ProcessGroup|Connection (closed|reset)|Timed out waiting")


@dataclass(frozen=True, slots=True)
class Facts:
    """What one rank found at its start.

    Attributes:
        host: name of its machine.
        refusal: a mistake that it found; empty for none.
        versions: of packages that all ranks need alike.
        config: its configuration, key by key.
        device: type of its device.
    """

    host: str
    refusal: str = ""
    versions: dict[str, str] = field(default_factory=dict[str, str])
    config: dict[str, Any] = field(default_factory=dict[str, Any])
    device: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What rank 0 decided: the mistake that ends the run, if there is one, and whether this is a restart."""

    refusal: str
    is_restart: bool


@contextmanager
def open_world(config: Config) -> Generator[World, None, None]:
    """Open the process group of the processes that a launcher started; `ALONE` for one process.

    Inside the `with` the ranks but the first print nothing.

    Args:
        config: of the run.

    Raises:
        AgreedError: on rank 0, for a mistake that a rank found, or a difference between ranks.
        SystemExit: on other ranks, wherever rank 0 prints the reason.
        ConnectionError: another rank ended, or did not answer in time.
    """
    own = place()
    if own.size == 1:
        yield ALONE
        return
    limit_s = 60 * config.distributed.timeout_minutes
    store = _open_store(own, limit_s)
    with _quiet(own.rank):
        try:
            verdict = _agree(store, own, config)
            yield _open_group(store, own, config, limit_s, verdict.is_restart)
            dist.destroy_process_group()
        except BaseException as error:
            _end(store, own, error, limit_s)
            raise


def refuse(error: Exception) -> NoReturn:
    """End a rank that could not read its configuration, and with it all others.

    Raises:
        AgreedError: on rank 0, naming the rank.
        SystemExit: on other ranks.
    """
    own = place()
    store = _open_store(own, WITHOUT_CONFIG_S)
    if own.rank == 0:
        store.set("probe", "\n")
    try:
        _decide(store, own, Facts(socket.gethostname(), str(error)))
    except AgreedError as agreed:
        _end(store, own, agreed, WITHOUT_CONFIG_S)
        raise
    raise error


def _open_store(own: Place, limit_s: float) -> PrefixStore:
    """Return a part of the launcher's store that all ranks read and write: those of this attempt.

    The launcher keeps its store when it starts all ranks again, with keys of ranks that have gone. So rank 0
    names the part, and gives the name to each rank that greets it by a number of its own.

    Raises:
        ValueError: on rank 0, if a rank does not start in time.
    """
    limit = timedelta(seconds=limit_s)
    store, _, _ = next(rendezvous("env://", timeout=limit))
    store.set_timeout(limit)
    if own.rank > 0:
        number = token_hex(8)
        store.set(f"greeting/{own.rank}", number)
        name = _value_of(store, f"answer/{number}").decode()
        store.set(f"{name}/joined/{own.rank}", "")
        return PrefixStore(name, store)
    name, missing, until = token_hex(8), set(range(1, own.size)), time.monotonic() + limit_s
    while missing:
        if time.monotonic() > until:
            raise ValueError(
                f"rank {min(missing)} did not start within distributed.timeout_minutes"
            )
        for rank in sorted(missing):
            if store.check([f"{name}/joined/{rank}"]):
                missing.remove(rank)
            elif store.check([greeting := f"greeting/{rank}"]):
                store.set(f"answer/{store.get(greeting).decode()}", name)
        time.sleep(POLL_S)
    return PrefixStore(name, store)


def is_own_run(store: Store, directory: Path) -> bool:
    """Return whether an earlier attempt of the launcher found a run directory empty: what it holds is this run's.

    Args:
        store: that all attempts share.
        directory: of the run.
    """
    if store.check([FOUND]):
        return store.get(FOUND) == b"empty"
    is_new = not directory.exists() or is_empty(directory)
    store.set(FOUND, "empty" if is_new else "a run")
    return False


def _agree(store: PrefixStore, own: Place, config: Config) -> Verdict:
    """Compare this rank with the others.

    Raises:
        AgreedError: on all ranks, for the first mistake.
    """
    host, probe, is_restart = socket.gethostname(), None, False
    settings = dict(flatten(dump(config))) | {"run.dir": str(config.run.dir.absolute())}
    try:
        device, refusal = device_of_rank(config, own), ""
        if own.rank == 0:
            is_restart = is_own_run(store.underlying_store, config.run.dir)
            probe = _probe(config.run.dir)
            store.set("probe", f"{host}\n{probe}")
        elif not is_seen(*_value_of(store, "probe").decode().partition("\n")[::2]):
            raise ValueError(
                f"run.dir = {config.run.dir}: {host} does not have the file that rank 0 wrote there; give a "
                "directory on a file system that all machines share"
            )
    except (ValueError, OSError) as error:
        device, refusal = "", str(error)
        if own.rank == 0:
            store.set("probe", "\n")
    versions = {"unmask": __version__, "torch": torch.__version__}
    try:
        return _decide(store, own, Facts(host, refusal, versions, settings, device), is_restart)
    finally:
        if probe is not None:
            probe.unlink(missing_ok=True)


def _decide(store: Store, own: Place, facts: Facts, is_restart: bool = False) -> Verdict:
    """Put this rank's facts into the store and return what rank 0 decides from all of them.

    Raises:
        AgreedError: on all ranks.
    """
    store.set(f"facts/{own.rank}", json.dumps(asdict(facts)))
    if own.rank == 0:
        try:
            found = [_facts_of(store, rank) for rank in range(own.size)]
            decided = Verdict(refusal_of(found), is_restart)
        except dist.DistStoreError as error:
            decided = Verdict(f"a rank did not start in time ({_first_line(error)})", False)
        store.set("verdict", json.dumps(asdict(decided)))
    verdict = Verdict(**json.loads(_value_of(store, "verdict")))
    if verdict.refusal:
        raise AgreedError(verdict.refusal)
    return verdict


def _facts_of(store: Store, rank: int) -> Facts:
    return Facts(**json.loads(_value_of(store, f"facts/{rank}")))


def _value_of(store: Store, key: str) -> bytes:
    """Return a value once there is one; `get` would wait in native code, where no signal is handled.

    Raises:
        dist.DistStoreError: if there is none within the time limit of the store.
    """
    limit: timedelta = store.timeout  # pyright: ignore[reportAttributeAccessIssue]
    until = time.monotonic() + limit.total_seconds()
    while not store.check([key]):
        if time.monotonic() > until:
            raise dist.DistStoreError(f"no {key} in {limit}")
        time.sleep(POLL_S)
    return store.get(key)


def refusal_of(found: Sequence[Facts]) -> str:
    """Return the first mistake that ranks found, or difference between them; empty for none.

    Args:
        found: by rank.
    """
    refusals = [f.refusal for f in found]
    if len(set(refusals)) == 1:
        return refusals[0] or _difference(found)
    rank = next(rank for rank, refusal in enumerate(refusals) if refusal)
    return f"rank {rank} on {found[rank].host}: {refusals[rank]}" if rank else refusals[0]


def _difference(found: Sequence[Facts]) -> str:
    """Return the first difference from rank 0 in versions, configuration or device."""
    first = found[0]
    for rank, other in enumerate(found):
        for name, version in first.versions.items():
            if other.versions[name] != version:
                return (
                    f"{name} is {other.versions[name]} on rank {rank} ({other.host}) and {version} on rank 0 "
                    f"({first.host}): install the same version everywhere"
                )
        for key in sorted(first.config.keys() | other.config.keys()):
            if first.config.get(key) != other.config.get(key):
                return (
                    f"{key} = {other.config.get(key)} on rank {rank} ({other.host}) and "
                    f"{first.config.get(key)} on rank 0 ({first.host}): give all processes the same configuration"
                )
        if other.device != first.device:
            return (
                f"model.device: rank {rank} ({other.host}) has {other.device} and rank 0 ({first.host}) has "
                f"{first.device}: set model.device = cpu, or start processes where there are GPUs only"
            )
    return ""


def device_of_rank(config: Config, own: Place) -> str:
    """Return the type of device of this rank, which on GPUs takes that of its local rank.

    Raises:
        ValueError: there is no such GPU, torch has no NCCL, or weights cannot be sharded over so many ranks.
    """
    asked, shard = config.model.device, config.distributed.shard
    if shard and own.size % shard:
        raise ValueError(
            f"distributed.shard = {shard}: does not divide the {own.size} processes of the run; give a "
            "divisor, or leave it out to shard the weights over all of them"
        )
    if asked not in ("auto", "cpu", "cuda"):
        raise ValueError(
            f"model.device = {asked}: each of several processes takes the GPU of its LOCAL_RANK; give cuda"
        )
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "cpu" or (asked == "auto" and not count):
        return "cpu"
    if own.local_rank >= count:
        raise ValueError(
            f"model.device = {asked}: LOCAL_RANK is {own.local_rank}, and torch finds {count} GPUs on "
            f"{socket.gethostname()}; start one process per GPU, or set model.device = cpu"
        )
    if not dist.is_nccl_available():
        raise ValueError(
            f"model.device = {asked}: this torch has no NCCL, by which several GPUs exchange tensors; "
            "install a torch for CUDA on Linux, or set model.device = cpu"
        )
    return "cuda"


def _open_group(
    store: Store, own: Place, config: Config, limit_s: float, is_restart: bool
) -> World:
    device, limit = device_of_rank(config, own), timedelta(seconds=limit_s)
    if device == "cuda":
        torch.cuda.set_device(own.local_rank)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo",
        store=PrefixStore("group", store),
        rank=own.rank,
        world_size=own.size,
        timeout=limit,
    )
    world = world_of_group(config.distributed.shard, torch.device(device), limit)
    return replace(world, is_restart=is_restart)


def _probe(directory: Path) -> Path:
    """Write an empty file into a run directory, or into the nearest directory above it that exists."""
    above = directory.absolute()
    while not above.exists():
        above = above.parent
    # The name of a leftover: what is left of a killed process does not count as content.
    probe = above / f"probe.tmp-{token_hex(4)}"
    probe.touch()
    return probe


def is_seen(host: str, probe: str) -> bool:
    """Return whether a file that rank 0 wrote is there; true where it wrote none.

    Args:
        host: of rank 0.
        probe: path of the file; empty for none.
    """
    until = time.monotonic() + (0.0 if host == socket.gethostname() else SEEN_S)
    while probe and not Path(probe).exists():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


@contextmanager
def _quiet(rank: int) -> Generator[None, None, None]:
    """Drop what the ranks but the first print: rank 0 prints the same."""
    if rank == 0:
        yield
        return
    with Path(os.devnull).open("w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
        yield


def _end(store: Store, own: Place, error: BaseException, limit_s: float) -> None:
    """End a rank that failed so that rank 0 alone reports it.

    Raises:
        SystemExit: on ranks whose reason rank 0 prints.
        ConnectionError: on rank 0, if another rank is lost.
        ValueError: on another rank, with a mistake that rank 0 does not have.
    """
    if threading.current_thread() is threading.main_thread():
        # The launcher stops all processes once one has ended; this one is about to.
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)
    is_lost = isinstance(error, RuntimeError) and LOST.search(str(error)) is not None
    is_common = isinstance(error, AgreedError | Stopped)
    text = "\n".join([str(error), *getattr(error, "__notes__", [])])
    try:
        store.set(f"end/{own.rank}", text)
        if own.rank == 0:
            if is_lost:
                raise _connection_error(store, own, error) from None
            return
        has_ended = _wait(store, "end/0", limit_s if is_common else ENDED_S)
        is_common = is_common or (has_ended and store.get("end/0").decode() == text)
    except dist.DistError:  # the launcher has gone, and its store
        pass
    if isinstance(error, Stopped):
        raise SystemExit(128 + error.signal_number) from error
    if is_lost or (is_common and isinstance(error, ValueError | OSError)):
        raise SystemExit(2) from error
    if isinstance(error, ValueError | OSError):
        raise ValueError(f"rank {own.rank}: {text}") from error


def _connection_error(store: Store, own: Place, error: BaseException) -> ConnectionError:
    """Return the error that names the ranks which have not noticed that one is lost: they are."""
    missing: list[str] = []
    for rank in range(1, own.size):
        if not _wait(store, f"end/{rank}", 0.1 if missing else ENDED_S):
            missing.append(f"rank {rank} on {_facts_of(store, rank).host}")
    late = "did not answer within distributed.timeout_minutes"
    happened = late if "imed out" in str(error) else "has ended, or lost its connection"
    found = ConnectionError(f"{', '.join(missing) or 'another rank'} {happened}")
    for note in getattr(error, "__notes__", ()):
        found.add_note(note)
    return found


def _wait(store: Store, key: str, limit_s: float) -> bool:
    """Return whether a key is in the store before the time limit."""
    until = time.monotonic() + limit_s
    while not (is_there := store.check([key])) and time.monotonic() < until:
        time.sleep(0.05)
    return is_there


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
