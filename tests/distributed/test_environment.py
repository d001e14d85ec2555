"""The place of a process is that of all variables of a launcher, or the only one."""

import pytest

from unmask.distributed.environment import VARIABLES, Place, place


def test_without_a_launcher_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", "3")  # a variable of another program
    assert place() == Place(0, 0, 1)


def test_place_is_read_from_the_variables_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    values = ("5", "1", "8", "node1", "29500")
    for name, value in zip(VARIABLES, values, strict=True):
        monkeypatch.setenv(name, value)
    assert place() == Place(5, 1, 8)
