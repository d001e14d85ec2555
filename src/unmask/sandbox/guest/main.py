"""The process of one program: it restricts itself, reports `ready`, takes a program and answers calls.

The report separates start-up from the program's time. Then it reads one job, a line of JSON: a program to
run from top to bottom with a given standard input, or one to load and call. Once the program runs, it
controls everything in this process, so the other end of the channel (`sandbox.process`) trusts nothing
that is sent from here.

The order of the restrictions matters: first the supervisor, which stays outside; then limits, while the
process may still set them; then the user; then settings that a change of user resets; and last the rules
that allow none of these.
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
# Additional stack frames below a program, compared with `python program.py`.
OWN_FRAMES = 8


def main(setup: Mapping[str, Any]) -> None:
    """Restrict this process, then serve one program: the life of the process.

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
    """Write all bytes, also if the channel takes a part of them at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(channel, rest) :]


def behave_like_a_script() -> None:
    """Set up what `python program.py` has and `python -S -c` lacks, and allow integers of any size."""
    site.setquit()
    site.setcopyright()
    site.sethelper()
    sys.argv[:] = ["program.py"]
    sys.setrecursionlimit(sys.getrecursionlimit() + OWN_FRAMES)
    if hasattr(sys, "set_int_max_str_digits"):  # a Python before 3.11 may run the programs
        sys.set_int_max_str_digits(0)


def run(source: str, stdin: str, file: int) -> None:
    """Run a program as `python program.py` does, with `stdin` written to `file` as its standard input."""
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
        builtin: its `__builtins__`: the module in a script, its dictionary in an imported module.
    """
    module = ModuleType(name)
    module.__file__ = f"{os.getcwd()}/program.py"  # noqa: PTH109 - pathlib is slow to load
    vars(module).update(__builtins__=builtin, __cached__=None)
    sys.modules[name] = module
    # As bytes, which may begin with a byte order mark.
    code = compile(source.encode("utf-8", "surrogatepass"), module.__file__, "exec")
    exec(code, vars(module))
    return module


class Kept:
    """Objects of the program that a test has a number for instead of a value."""

    def __init__(self) -> None:
        self.objects: list[Any] = []
        self._numbers: dict[int, int] = {}

    def number_of(self, value: Any) -> int:
        """Return the number of an object, the same at each call."""
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self.objects)
            self.objects.append(value)
        return self._numbers[id(value)]


def answer_calls(
    source: str, questions: Iterable[bytes], channel: int, kept: Kept | None = None
) -> None:
    """Load a program, then call its functions; each answer contains the number of its question.

    Args:
        source: the program.
        questions: lines of JSON.
        channel: descriptor for the answers.
        kept: stores results that are no literals; None if such results are refused.
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
                answer = describe(None)
            else:
                packed = [question["args"], question["kwargs"]]
                args, kwargs = (unpack(part, -MAX_DEPTH, object_at) for part in packed)
                called = find(namespace, question["target"])
                value = called(*args, **kwargs)
                if kept is not None and isinstance(called, type):
                    # A class may derive from list: a test that makes an instance needs the object.
                    answer = ["value", ["object", kept.number_of(value)]]
                else:
                    answer = describe(value, refer)
        except BaseException as error:
            answer = ["raise", type(error).__name__, message_of(error)]
        write_all(channel, json.dumps([question["number"], *answer]).encode() + b"\n")


def find(namespace: Mapping[str, Any], target: str) -> Callable[..., Any]:
    """Return the callable that a target names.

    `f` is a function and `Solution().f` a method of a new object. For an object as first argument, `.name`
    reads its attribute, `.name=` sets it, and `()` calls the object.
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
    """Return the answer for a result: its value, or the type that is no literal."""
    try:
        return ["value", pack(value, refer=refer)]
    except (TypeError, ValueError) as error:
        return ["foreign", str(error)]


def message_of(error: BaseException) -> str:
    """Return the message of an exception; empty if its `__str__` fails."""
    try:
        return str(error)[:MAX_MESSAGE]
    except BaseException:
        return ""
