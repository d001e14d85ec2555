"""A mistake is reported once, by rank 0, and every rank ends with exit code 2."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest
from torch.distributed import HashStore

from tests.distributed.processes import run_ranks
from tests.end_to_end.real_command import rl_words
from tests.trainers.toy_runs import rl_config
from unmask.distributed.environment import Place
from unmask.distributed.start import Facts, device_of_rank, is_own_run, is_seen, refusal_of

FIRST = Facts("node0", "", {"torch": "2.13"}, {"steps": 3, "run.dir": "/runs/a"}, "cpu")
SECOND = replace(FIRST, host="node1")


def test_equal_ranks_start() -> None:
    assert refusal_of([FIRST, SECOND, SECOND]) == ""


def test_a_mistake_of_all_ranks_is_one_sentence() -> None:
    assert refusal_of([replace(f, refusal="bad") for f in (FIRST, SECOND)]) == "bad"


def test_the_rank_of_a_mistake_is_named() -> None:
    assert refusal_of([FIRST, replace(SECOND, refusal="bad")]) == "rank 1 on node1: bad"
    assert refusal_of([replace(FIRST, refusal="bad"), SECOND]) == "bad"


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(SECOND, versions={"torch": "2.12"}), "torch is 2.12 on rank 1 (node1) and 2.13"),
        (replace(SECOND, config={"steps": 4}), "run.dir = None on rank 1 (node1) and /runs/a"),
        (replace(SECOND, config=FIRST.config | {"steps": 4}), "steps = 4 on rank 1 (node1) and 3"),
        (
            replace(SECOND, device="cuda"),
            "model.device: rank 1 (node1) has cuda and rank 0 (node0)",
        ),
    ],
)
def test_a_difference_is_named(other: Facts, message: str) -> None:
    assert refusal_of([FIRST, other]).startswith(message)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("distributed.shard=2", r"^distributed.shard = 2: does not divide the 3 processes"),
        ("model.device=cuda:1", r"^model.device = cuda:1: each of several processes takes the GPU"),
    ],
)
def test_a_rank_without_its_device_is_refused(word: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        device_of_rank(rl_config(tmp_path, word), Place(0, 0, 3))


def test_a_rank_takes_the_gpu_of_its_local_rank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = rl_config(tmp_path, "model.device=cuda")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.distributed.is_nccl_available", lambda: True)
    assert device_of_rank(config, Place(5, 1, 8)) == "cuda"
    with pytest.raises(
        ValueError, match=r"^model.device = cuda: LOCAL_RANK is 2, and torch finds 2"
    ):
        device_of_rank(config, Place(6, 2, 8))
    monkeypatch.setattr("torch.distributed.is_nccl_available", lambda: False)
    with pytest.raises(ValueError, match=r"^model.device = cuda: this torch has no NCCL"):
        device_of_rank(config, Place(5, 1, 8))


def test_a_directory_that_is_not_shared_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unmask.distributed.start.SEEN_S", 0.2)
    (tmp_path / "probe").touch()
    assert is_seen("another host", str(tmp_path / "probe"))
    assert is_seen("another host", "")  # rank 0 has found a mistake, which it reports
    assert not is_seen("another host", str(tmp_path / "elsewhere"))


def test_a_run_of_the_first_attempt_is_resumed_and_no_other(tmp_path: Path) -> None:
    new, before = HashStore(), HashStore()
    assert not is_own_run(new, tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").touch()
    assert is_own_run(new, tmp_path / "run")
    assert not is_own_run(before, tmp_path / "run")
    assert not is_own_run(before, tmp_path / "run")  # refused once, it is refused again


def refused(words: list[str], more: dict[int, list[str]] | None = None) -> str:
    """Return the one line that rank 0 prints; both ranks must end with 2, and rank 1 prints nothing."""
    found = run_ranks(words, more=more)
    assert [code for code, _ in found] == [2, 2], found
    # torch may warn of the store of a rank that has ended.
    lines, others = ([line for line in text.splitlines() if "error" in line] for _, text in found)
    assert not others
    (line,) = lines
    return line.removeprefix("error: ")


def test_a_config_that_cannot_be_read_ends_all_ranks(tmp_path: Path) -> None:
    assert refused(rl_words(tmp_path, "steps=none")).startswith("steps = ")


def test_a_shard_that_does_not_divide_ends_all_ranks(tmp_path: Path) -> None:
    assert refused(rl_words(tmp_path, "distributed.shard=3")).startswith("distributed.shard = 3: ")
    assert not (tmp_path / "run").exists()


def test_a_run_directory_that_is_not_empty_ends_all_ranks(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes").touch()
    assert refused(rl_words(tmp_path)).startswith(f"run.dir = {tmp_path / 'run'}: is not empty")


DIFFERENT = {
    "nonsense=1": "rank 1 on HOST: unknown key nonsense",
    "steps=3": "steps = 3 on rank 1 (HOST) and 2 on rank 0 (HOST): give all processes the same",
}


@pytest.mark.parametrize("word", DIFFERENT)
def test_another_config_on_one_rank_ends_all_ranks(word: str, tmp_path: Path) -> None:
    expected = DIFFERENT[word].replace("HOST", socket.gethostname())
    assert refused(rl_words(tmp_path, "steps=2"), {1: [word]}).startswith(expected)
