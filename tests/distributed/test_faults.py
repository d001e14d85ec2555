"""A failure on one rank ends all of them with its reason, and the run goes on from its last checkpoint."""

import resource
import shutil
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.processes import end_ranks, run_ranks, start_ranks
from tests.distributed.ranks import on_ranks
from tests.end_to_end.real_command import rl_words
from tests.forked_python import ForkedPython
from tests.toy import toy_checkpoint
from tests.trainers.breaking import VARIABLE
from tests.trainers.toy_runs import metrics, rl_config, sft_config
from unmask.distributed.world import AgreedError, World
from unmask.trainers.rl import train_rl
from unmask.trainers.sft import train_sft

LIMIT_S = 120.0
LONG = ["steps=40", "save_every=2", "minibatches=2"]


def missing_on_rank_one(world: World, kind: str, place: Path) -> str:
    """Train with a data file that rank 1 does not have, and return the error."""
    key = {"sft": "data.path", "rl": "task.train"}[kind]
    words = [f"{key}={place / 'missing.json'}"] if world.rank == 1 else []
    try:
        if kind == "sft":
            train_sft(sft_config(place, *words), False, world)
        else:
            train_rl(rl_config(place, *words), False, world)
    except AgreedError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", ["sft", "rl"])
def test_a_data_set_that_is_missing_on_one_rank_stops_all(kind: str, tmp_path: Path) -> None:
    rl_config(tmp_path)
    first, second = on_ranks(missing_on_rank_one, kind, tmp_path)
    assert first == second
    assert first.startswith("rank 1: ")
    assert "missing.json" in first
    assert not (tmp_path / "run").exists()


def test_a_reward_that_fails_on_one_rank_stops_all(tmp_path: Path) -> None:
    """The fifth response of rank 1 is of its second step, where its share is a prompt of three."""
    words = rl_words(tmp_path, "steps=3", "save_every=0")
    found = run_ranks(words, of_rank={1: {VARIABLE: "nan:5"}})
    assert [code for code, _ in found] == [2, 2], found
    assert "error: " not in found[1][1]
    first, *others = [text for text in found[0][1].splitlines() if text.startswith("error: ")]
    assert first.startswith(
        "error: rank 1: task.reward = 'tests.trainers.breaking:reward' returned nan"
    )
    assert others == ["error: the state of step 1 is kept: go on by --resume"]
    assert [code for code, _ in run_ranks([*words, "--resume"])] == [0, 0]
    assert [line["step"] for line in metrics(tmp_path / "run")] == [1, 2, 3]


@contextmanager
def small_files(limit: int) -> Generator[None, None, None]:
    """Let writing fail past a file size, as on a full disk; processes that start inside inherit it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_stops_all(tmp_path: Path) -> None:
    words = rl_words(tmp_path, "steps=2", "save_every=1")
    shutil.rmtree(tmp_path / "checkpoint")
    toy_checkpoint(tmp_path / "checkpoint", ffn_width=4096)  # weights alone do not fit
    with small_files(2_000_000):
        found = run_ranks(words)
    assert [code for code, _ in found] == [2, 2], found
    assert "error: " not in found[1][1]
    (line,) = [line for line in found[0][1].splitlines() if line.startswith("error: ")]
    place = tmp_path / "run" / "checkpoints" / "step-000001"
    assert line.startswith(f"error: {place}: cannot be saved: ")
    assert not place.exists()


def wait(processes: list[ForkedPython], happened: Callable[[], Any]) -> None:
    until = time.monotonic() + LIMIT_S
    while not happened():
        assert all(process.poll() is None for process in processes), end_ranks(processes)
        assert time.monotonic() < until
        time.sleep(0.003)


def num_lines(run: Path) -> int:
    file = run / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def test_a_killed_rank_ends_the_others(tmp_path: Path) -> None:
    words, run = rl_words(tmp_path, *LONG), tmp_path / "run"
    processes = start_ranks(words)
    wait(processes, lambda: num_lines(run) >= 3)
    processes[1].kill()
    (code, text), (other, _) = end_ranks(processes)
    assert (code, other) == (2, -signal.SIGKILL)
    assert "error: rank 1 on " in text
    assert "has ended, or lost its connection" in text
    assert "is kept: go on by --resume" in text


def test_a_signal_to_every_rank_keeps_the_last_step(tmp_path: Path) -> None:
    words, run = rl_words(tmp_path, *LONG), tmp_path / "run"
    processes = start_ranks(words)
    wait(processes, lambda: num_lines(run) >= 3)
    for process in processes:
        process.send_signal(signal.SIGTERM)
    found = end_ranks(processes)
    assert [code for code, _ in found] == [143, 143], found
    assert "error: " not in found[1][1]
    (line,) = [line for line in found[0][1].splitlines() if line.startswith("stopped by ")]
    last = max(int(p.name.removeprefix("step-")) for p in (run / "checkpoints").glob("step-*"))
    assert line == (
        f"stopped by SIGTERM; the state of step {last} is kept; "
        "resume with the same torchrun command and --resume"
    )
