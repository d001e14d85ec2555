"""A function in a process of its own: results in order, calls that are late, and functions that fail."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from unmask.rewards.function_process import FunctionProcess, Result

MODULE = """
import asyncio, os, sys, threading, time

def double(number, **kwargs):
    print("a line on standard output")
    return 2 * number

def sleeps(number):
    return time.sleep(3600) if number == 1 else number

def number_of(number):
    return os.getpid()

def environment(number):
    return len(os.environ.get("UNMASK_TEST_KEY", ""))

def ends_later(number):
    threading.Timer(0.1, os._exit, [4]).start()
    return number

def buggy(number):
    return 1 / (number - 1)

def ends(number):
    sys.exit(3) if number else None
    os._exit(3)

async def waits(number):
    \"\"\"Return only once all three calls run.\"\"\"
    running.append(number)
    while len(running) < 3:
        await asyncio.sleep(0)
    return number

running = []

async def never(number):
    await asyncio.sleep(3600 if number == 1 else 0)
    return number

async def times_out(number):
    raise TimeoutError("of a service")
"""
# Far more than a call takes, also on a loaded machine: calls that are late sleep for an hour.
LIMIT = 3.0


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "process_toy.py").write_text(MODULE)
    (tmp_path / "process_import.py").write_text("import no_such_package")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNMASK_TEST_KEY", "abc")


Start = Callable[..., FunctionProcess]


@pytest.fixture
def start() -> Start:
    def started(name: str, seconds: float = 600.0) -> FunctionProcess:
        return FunctionProcess(f"process_toy:{name}", "reward.function", ["number"], True, seconds)

    return started


def values(process: FunctionProcess, count: int = 3) -> list[Result]:
    names = [f"response {number}" for number in range(count)]
    return process.run([{"number": number} for number in range(count)], names)


def test_results_come_in_order_from_one_other_process(start: Start) -> None:
    assert values(start("double")) == [Result(0), Result(2), Result(4)]
    process = start("number_of")
    first, again = values(process), values(process)
    assert len({result.value for result in first + again}) == 1
    assert first[0].value != os.getpid()
    assert values(start("environment"), 1) == [Result(3)]


def test_a_late_call_has_no_result_and_the_others_have_theirs(start: Start) -> None:
    process = start("sleeps", LIMIT)
    assert values(process) == [Result(0), Result(is_late=True), Result(2)]
    assert values(process, 1) == [Result(0)]


def test_async_calls_run_concurrently_each_with_the_limit(start: Start) -> None:
    assert values(start("waits")) == [Result(0), Result(1), Result(2)]
    assert values(start("never", LIMIT)) == [Result(0), Result(is_late=True), Result(2)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("buggy", r"reward.function raised ZeroDivisionError\(.*process_toy\.py:22 for response 1"),
        ("times_out", r"raised TimeoutError\('of a service'\) at .* for response 0"),
        ("ends", "its process ended with status 3 in the call for response 0"),
    ],
)
def test_a_function_that_fails_is_named(name: str, message: str, start: Start) -> None:
    process = start(name)
    with pytest.raises(ValueError, match=message):
        values(process)


def test_a_process_that_ended_between_two_calls_is_named(start: Start) -> None:
    process = start("ends_later")
    assert values(process, 1) == [Result(0)]
    process._children[0].process.wait()  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(ValueError, match="its process ended with status 4 in the call for respon"):
        values(process)
    assert values(process, 1) == [Result(0)], "it starts again"


def test_a_wrong_function_is_refused_at_the_start(start: Start) -> None:
    with pytest.raises(ValueError, match="module 'process_toy' has no function 'absent'"):
        start("absent")
    with pytest.raises(ValueError, match=r"reward\.function: it is no function"):
        start("running")
    with pytest.raises(ValueError, match="importing it raised ModuleNotFoundError"):
        FunctionProcess("process_import:f", "reward.function", ["number"], True, 1.0)
    with pytest.raises(ValueError, match="it takes no other, which every call has: add that param"):
        FunctionProcess("process_toy:sleeps", "reward.function", ["other"], False, 1.0)
