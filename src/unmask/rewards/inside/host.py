"""The process that holds a program: it locks itself in, says so, takes a program, answers calls.

It starts blank and says `ready`, so that start-up is on no test's clock. Then it reads one job, a
line of JSON: a program to run from top to bottom with a given standard input, or one to load and
call. From the moment the program runs, everything in this process is the program's: what is written
here is a courtesy to honest programs, and the other end of the channel (`rewards.sandbox`) believes
none of it.

The order of locking matters: limits while the process may still set them, then the user, then what
changing the user resets.
"""

import contextlib
import json
import os
import resource
import sys
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from unmask.rewards.inside.literals import pack, unpack
from unmask.rewards.inside.watch import die_with, fork_watched

MAX_MESSAGE = 1000


def main(setup: Mapping[str, Any]) -> None:
    """Lock in, then serve one program; the whole life of the process.

    Args:
        setup: `limits` (see `lock_in`), `uid` (None keeps the user), `is_bare` (no launcher has
            bound the process to its parent's life).
    """
    if setup["is_bare"]:
        fork_watched(setup["uid"])
    channel = os.dup(0)
    questions = os.fdopen(channel, "rb", closefd=False)
    parent = os.getppid()
    lock_in(setup["limits"], setup["uid"])
    if setup["is_bare"]:
        os.setsid()
        die_with(parent)
    write_all(channel, b"ready\n")
    job = json.loads(questions.readline() or "null")
    if job is None:
        return
    if job["stdin"] is None:
        answer_calls(job["program"], questions, channel)
    else:
        os.close(channel)
        run(job["program"], job["stdin"])


def lock_in(limits: Mapping[str, int], uid: int | None) -> None:
    """Set every limit hard, and become a user who owns nothing.

    Args:
        limits: `cpu_s`, `memory`, `file`, `processes`; bytes where it is a size.
        uid: the user and group to become; None keeps them.
    """
    # The first limit on time ends the process by a signal of its own, which names the reason.
    resource.setrlimit(resource.RLIMIT_CPU, (limits["cpu_s"], limits["cpu_s"] + 1))
    for name, value in (
        ("RLIMIT_AS", limits["memory"]),
        ("RLIMIT_FSIZE", limits["file"]),
        ("RLIMIT_NPROC", limits["processes"]),
        ("RLIMIT_NOFILE", 128),
        ("RLIMIT_CORE", 0),
    ):
        resource.setrlimit(getattr(resource, name), (value, value))
    # Where the memory of the machine runs out, the kernel takes this process first.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
        file.write("1000")
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


def write_all(channel: int, data: bytes) -> None:
    """Write it all, however little of it the channel takes at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(channel, rest) :]


def run(source: str, stdin: str) -> None:
    """Run a program as `python program.py` would, with `stdin` to read; an uncaught exception is status 1."""
    file = os.memfd_create("stdin")
    with os.fdopen(os.dup(file), "wb") as writer:
        writer.write(stdin.encode("utf-8", "surrogatepass"))
    os.lseek(file, 0, os.SEEK_SET)
    os.dup2(file, 0)
    os.close(file)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    load(source, "__main__")


def load(source: str, name: str) -> ModuleType:
    """Execute a program as a module of this name."""
    module = ModuleType(name)
    sys.modules[name] = module
    sys.argv[:] = ["program.py"]
    exec(compile(source, "program.py", "exec"), module.__dict__)
    return module


def answer_calls(source: str, questions: Iterable[bytes], channel: int) -> None:
    """Load a program, then call its functions as asked; every answer carries the question's number."""
    sink = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(sink, stream)
    namespace: dict[str, Any] = {}
    for line in questions:
        question = json.loads(line)
        try:
            if question["target"] is None:
                namespace = load(source, "program").__dict__
                value = None
            else:
                args, kwargs = unpack(question["args"]), unpack(question["kwargs"])
                value = find(namespace, question["target"])(*args, **kwargs)
            said = describe(value)
        except BaseException as error:
            said = ["raise", type(error).__name__, message_of(error)]
        write_all(channel, json.dumps([question["number"], *said]).encode() + b"\n")


def find(namespace: Mapping[str, Any], target: str) -> Any:
    """Return what a target names: a function `f`, or a method of a fresh object, `Solution().f`."""
    owner, _, method = target.rpartition("().")
    if (owner or target) not in namespace:
        raise NameError(f"name {owner or target!r} is not defined")
    return getattr(namespace[owner](), method) if owner else namespace[target]


def describe(value: object) -> list[Any]:
    """Return what is said of a result: itself, or the type that may not cross."""
    try:
        return ["value", pack(value)]
    except (TypeError, ValueError) as error:
        return ["foreign", str(error)]


def message_of(error: BaseException) -> str:
    """Return an exception's text, whatever its own `__str__` does."""
    try:
        return str(error)[:MAX_MESSAGE]
    except BaseException:
        return ""
