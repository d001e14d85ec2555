"""`--nproc`: the exit code of a run from those of its processes."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from unmask.cli.ranks import exit_code, how_to_resume

CODES = {
    "the user's mistake": ({0: 2, 1: 2}, 2),
    "a mistake of one rank": ({0: -15, 1: 2}, 2),
    "a bug, and what it did to the others": ({0: 2, 1: 1}, 1),
    "a signal to each": ({0: 143, 1: 143}, 143),
    "a signal before the loop": ({0: -15, 1: -15}, 143),
    "killed": ({0: 2, 1: -9}, 137),
}


def failures(codes: dict[int, int]) -> Any:
    return {rank: SimpleNamespace(exitcode=code, pid=100 + rank) for rank, code in codes.items()}


@pytest.mark.parametrize("case", CODES)
def test_exit_code_is_that_of_the_cause(case: str) -> None:
    codes, expected = CODES[case]
    assert exit_code(failures(codes)) == expected


def test_a_killed_rank_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["unmask", "rl", "mine.toml", "--nproc", "2"])
    exit_code(failures({0: 2, 1: -9}))
    assert capsys.readouterr().err == (
        "error: rank 1 (process 101) was ended by SIGKILL; resume with: unmask rl mine.toml --nproc 2 --resume\n"
    )


def test_torchrun_resumes_what_torchrun_started(monkeypatch: pytest.MonkeyPatch) -> None:
    place = {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "",
        "MASTER_PORT": "",
    }
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["unmask", "rl", "mine.toml"])
    assert how_to_resume() == "resume with the same torchrun command and --resume"
