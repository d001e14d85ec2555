"""Limits of a sandboxed program, and the exceptions of a test that ends without a verdict.

A grader distinguishes a program that failed, a program that raised an exception which the protocol cannot
transfer, and a test that cannot run.
"""

import builtins
import contextlib
from dataclasses import dataclass

from unmask.configs.sandbox import SandboxConfig

MIB = 2**20
ENDS_A_LOOP = (StopIteration, StopAsyncIteration)


@dataclass(frozen=True, slots=True)
class Limits:
    """Resource limits of one test of one program; sizes in bytes, as opposed to `[task.sandbox]`."""

    cpu_s: int = 6
    wall_s: float = 60.0
    memory: int = 1024 * MIB
    file: int = 64 * MIB
    output: int = 16 * MIB
    processes: int = 8


def limits_from_config(config: SandboxConfig) -> Limits:
    """Return the limits of a config."""
    sizes = (config.memory_mb * MIB, config.file_mb * MIB, config.output_mb * MIB)
    return Limits(config.cpu_s, config.wall_s, *sizes, config.processes)


class ProgramFailedError(BaseException):
    """The program ended or broke the protocol. `except Exception` in a test must not hide it."""


class ProgramRaisedError(Exception):
    """The program raised an exception that is not builtin, or that would end the test's own loop."""


class ForeignValueError(ProgramRaisedError):
    """The program returned a value that is not a literal: the test fails, even if it hides this."""


class UnfitTestError(RuntimeError):
    """The test itself cannot run, which is not a verdict on the program."""


def check_stdin(stdin: str, limits: Limits) -> None:
    """Check that a standard input fits into a program's file system.

    Raises:
        UnfitTestError: it does not; names its size and the key.
    """
    size = len(stdin.encode("utf-8", "surrogatepass"))
    if size > limits.file:
        raise UnfitTestError(
            f"a test's standard input has {size / MIB:.1f} MiB, and task.sandbox.file_mb = "
            f"{limits.file // MIB}: raise it"
        )


def exception_from_name(name: str, message: str) -> Exception:
    """Return the builtin exception of that name, which a test may expect, or else a `ProgramRaisedError`.

    Exceptions that end an iteration are not raised again: in the loop of a test they would end the loop.
    """
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception) and kind not in ENDS_A_LOOP:
        with contextlib.suppress(TypeError):
            return kind(message)
    return ProgramRaisedError(f"{name[:100]}: {message}")
