"""The process that holds a program: it locks itself in, says so, takes a program, answers calls.

It starts blank and says `ready`, so that start-up is on no test's clock. Then it reads one job, a
line of JSON: a program to run from top to bottom with a given standard input, or one to load and
call. From the moment the program runs, everything in this process is the program's: what is written
here is a courtesy to honest programs, and the other end of the channel (`sandbox.process`) believes
none of it.

The order of locking matters: a watcher first, which stays outside; limits while the process may still
set them, then the user, then what changing the user resets, and last the rules that admit none of it.
"""

import builtins
import json
import os
import site
import sys
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

from unmask.sandbox.guest.landlock import restrict
from unmask.sandbox.guest.limits import be_killed_first, lock_in
from unmask.sandbox.guest.literals import MAX_DEPTH, pack, refuse, unpack
from unmask.sandbox.guest.supervisor import die_with, fork_watched
from unmask.sandbox.guest.syscalls import refuse_calls

MAX_MESSAGE = 1000
# Frames below a program that `python program.py` does not have.
OWN_FRAMES = 8


def main(setup: Mapping[str, Any]) -> None:
    """Lock in, then serve one program; the whole life of the process.

    Args:
        setup: `inherited`, `has_cgroup`, `limits` and `tmpfs` (see `fork_watched`), `uid` (None keeps the user),
            `paths` and `bounded` (see `restrict`), `may_connect` (see `refuse_calls`).
    """
    be_killed_first()
    fork_watched(setup["inherited"], setup["has_cgroup"], setup["limits"], setup["tmpfs"])
    parent = os.getppid()
    channel = os.dup(0)
    questions = os.fdopen(channel, "rb", closefd=False)
    stdin = os.memfd_create("stdin")
    lock_in(setup["limits"], setup["uid"])
    os.setsid()
    die_with(parent)
    restrict(setup["paths"], setup["bounded"])
    refuse_calls(setup["may_connect"])
    write_all(channel, b"ready\n")
    job = json.loads(questions.readline() or "null")
    if job is None:
        return
    behave_like_a_script()
    if job["stdin"] is None:
        os.close(stdin)
        answer_calls(job["program"], questions, channel, Kept() if job["keeps_objects"] else None)
    else:
        os.close(channel)
        run(job["program"], job["stdin"], stdin)


def write_all(channel: int, data: bytes) -> None:
    """Write it all, however little of it the channel takes at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(channel, rest) :]


def behave_like_a_script() -> None:
    """Give the program what `python program.py` has and `python -S -c` has not, and whole numbers of any size."""
    site.setquit()
    site.setcopyright()
    site.sethelper()
    sys.argv[:] = ["program.py"]
    sys.setrecursionlimit(sys.getrecursionlimit() + OWN_FRAMES)
    if hasattr(sys, "set_int_max_str_digits"):  # a Python of before 3.11 may run the programs
        sys.set_int_max_str_digits(0)


def run(source: str, stdin: str, file: int) -> None:
    """Run a program as `python program.py` would, with `stdin` in `file` to read; an uncaught exception is status 1."""
    with os.fdopen(os.dup(file), "wb") as writer:
        writer.write(stdin.encode("utf-8", "surrogatepass"))
    os.lseek(file, 0, os.SEEK_SET)
    os.dup2(file, 0)
    os.close(file)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    with open("program.py", "wb") as script:  # noqa: PTH123
        script.write(source.encode("utf-8", "surrogatepass"))
    sys.path.insert(0, os.getcwd())  # noqa: PTH109
    load(source, "__main__", builtins)


def load(source: str, name: str, builtin: object) -> ModuleType:
    """Execute a program as a module of this name.

    Args:
        source: the program.
        name: of the module.
        builtin: its `__builtins__`: the module in a script, and its dictionary in what is imported.
    """
    module = ModuleType(name)
    module.__file__ = f"{os.getcwd()}/program.py"  # noqa: PTH109 - pathlib is slow to load
    vars(module).update(__builtins__=builtin, __cached__=None)
    sys.modules[name] = module
    # As bytes: a text may not begin with a byte order mark.
    code = compile(source.encode("utf-8", "surrogatepass"), module.__file__, "exec")
    exec(code, vars(module))
    return module


class Kept:
    """Objects of the program that a test has been given a number for, instead of a value."""

    def __init__(self) -> None:
        self.objects: list[Any] = []
        self._numbers: dict[int, int] = {}

    def number_of(self, value: Any) -> int:
        """Return the number that stands for an object, always the same."""
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self.objects)
            self.objects.append(value)
        return self._numbers[id(value)]


def answer_calls(
    source: str, questions: Iterable[bytes], channel: int, kept: Kept | None = None
) -> None:
    """Load a program, then call its functions as asked; every answer carries the question's number.

    Args:
        source: the program.
        questions: a line of JSON each.
        channel: where answers go.
        kept: keeps results that are no literals; None where there may be none.
    """
    sink = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(sink, stream)
    namespace: dict[str, Any] = {}
    refer = refuse if kept is None else kept.number_of
    object_at = refuse if kept is None else kept.objects.__getitem__
    for line in questions:
        question = json.loads(line)
        try:
            if question["target"] is None:
                namespace = vars(load(source, "program", vars(builtins)))
                said = describe(None)
            else:
                packed = [question["args"], question["kwargs"]]
                args, kwargs = (unpack(part, -MAX_DEPTH, object_at) for part in packed)
                called = find(namespace, question["target"])
                value = called(*args, **kwargs)
                if kept is not None and isinstance(called, type):
                    # A class of stacks may be one of lists: a test that makes one wants the object.
                    said = ["value", ["object", kept.number_of(value)]]
                else:
                    said = describe(value, refer)
        except BaseException as error:
            said = ["raise", type(error).__name__, message_of(error)]
        write_all(channel, json.dumps([question["number"], *said]).encode() + b"\n")


def find(namespace: Mapping[str, Any], target: str) -> Callable[..., Any]:
    """Return what a target names.

    A function `f`, or a method of a fresh object, `Solution().f`; and of an object that is the first
    argument, `.name` its attribute, `.name=` what sets it, `()` what calls it.
    """
    if target == "()":
        return lambda owner, *args, **kwargs: owner(*args, **kwargs)
    if target.startswith("."):
        name = target.strip(".=")
        if target.endswith("="):
            return lambda owner, value: setattr(owner, name, value)
        return lambda owner: getattr(owner, name)
    owner, _, method = target.rpartition("().")
    if (owner or target) not in namespace:
        raise NameError(f"name {owner or target!r} is not defined")
    return getattr(namespace[owner](), method) if owner else namespace[target]


def describe(value: object, refer: Callable[[Any], int] = refuse) -> list[Any]:
    """Return what is said of a result: itself, or the type that may not cross."""
    try:
        return ["value", pack(value, refer=refer)]
    except (TypeError, ValueError) as error:
        return ["foreign", str(error)]


def message_of(error: BaseException) -> str:
    """Return an exception's text, whatever its own `__str__` does."""
    try:
        return str(error)[:MAX_MESSAGE]
    except BaseException:
        return ""
