"""Limits of a sandboxed program, and the three ways in which a test of it can end without a verdict.

A program that failed, a program that raised something that does not cross, and a test that cannot run
are different things to a grader, so each has an exception of its own.
"""

import builtins
import contextlib
from dataclasses import dataclass

from unmask.configs.sandbox import SandboxConfig

MIB = 2**20
ENDS_A_LOOP = (StopIteration, StopAsyncIteration)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one test of one program may use up; sizes in bytes."""

    cpu_s: int = 6
    wall_s: float = 60.0
    memory: int = 1024 * MIB
    file: int = 64 * MIB
    output: int = 16 * MIB
    processes: int = 8


def limits_from_config(config: SandboxConfig) -> Limits:
    """Read the limits of a config."""
    return Limits(
        config.cpu_s,
        config.wall_s,
        config.memory_mb * MIB,
        config.file_mb * MIB,
        config.output_mb * MIB,
        config.processes,
    )


class ProgramFailedError(BaseException):
    """The program has ended or broken the protocol; no `except Exception` of a test may hide it."""


class ProgramRaisedError(Exception):
    """The program raised something that is no builtin exception, or ended itself by one."""


class ForeignValueError(ProgramRaisedError):
    """What the program returned is no literal, which fails the test even if the test hides it."""


class UnfitTestError(RuntimeError):
    """The test itself cannot run; that is no verdict on any program."""


def check_stdin(stdin: str, limits: Limits) -> None:
    """Refuse a standard input that does not fit into a program's file system.

    Raises:
        UnfitTestError: naming its size and the key.
    """
    size = len(stdin.encode("utf-8", "surrogatepass"))
    if size > limits.file:
        raise UnfitTestError(
            f"a test's standard input has {size / MIB:.1f} MiB, and task.sandbox.file_mb = "
            f"{limits.file // MIB}: raise it"
        )


def exception_from_name(name: str, message: str) -> Exception:
    """Return the exception that a program raised, where a test could have expected it.

    One that ends an iteration is not raised again: in the loop of a test it would end the test.
    """
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception) and kind not in ENDS_A_LOOP:
        with contextlib.suppress(TypeError):
            return kind(message)
    return ProgramRaisedError(f"{name[:100]}: {message}")
