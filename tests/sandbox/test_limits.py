"""Limits read from a configuration, what fits into them, and exceptions made from their names."""

import pytest

from unmask.configs.sandbox import SandboxConfig
from unmask.sandbox.limits import (
    MIB,
    Limits,
    ProgramRaisedError,
    UnfitTestError,
    check_stdin,
    exception_from_name,
    limits_from_config,
)


def test_sizes_of_a_configuration_are_mebibytes() -> None:
    limits = limits_from_config(SandboxConfig(memory_mb=256, file_mb=2, output_mb=1, cpu_s=3))
    assert (limits.memory, limits.file, limits.output) == (256 * MIB, 2 * MIB, MIB)
    assert (limits.cpu_s, limits.processes) == (3, Limits().processes)


def test_a_standard_input_is_counted_in_bytes() -> None:
    limits = Limits(file=8)
    check_stdin("12345678", limits)
    check_stdin("\ud800", limits)  # half of a surrogate pair has bytes too
    with pytest.raises(UnfitTestError, match=r"task\.sandbox\.file_mb"):
        check_stdin("ééééé", limits)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ValueError", ValueError),
        ("StopIteration", ProgramRaisedError),  # it would end the loop of a test
        ("SystemExit", ProgramRaisedError),
        ("UnicodeDecodeError", ProgramRaisedError),  # a message alone does not make one
        ("print", ProgramRaisedError),
        ("Mine", ProgramRaisedError),
    ],
)
def test_an_exception_is_made_of_its_name(name: str, kind: type[Exception]) -> None:
    made = exception_from_name(name, "why")
    assert type(made) is kind
    assert "why" in str(made)
