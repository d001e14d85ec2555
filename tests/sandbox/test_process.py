"""One isolated program: calls, runs, and the three ways in which it can fail."""

import time

import pytest

from tests.sandboxes import python_for, ready
from unmask.configs.sandbox import SandboxConfig
from unmask.sandbox.isolation import best_backend
from unmask.sandbox.limits import (
    Limits,
    ProgramFailedError,
    ProgramRaisedError,
    UnfitTestError,
    limits_from_config,
)
from unmask.sandbox.process import Sandbox

BACKEND = best_backend()


def test_limits_are_those_of_the_config():
    config = SandboxConfig(cpu_s=3, wall_s=7.5, memory_mb=100, file_mb=2, output_mb=1, processes=4)
    assert limits_from_config(config) == Limits(3, 7.5, 100 * 2**20, 2 * 2**20, 2**20, 4)
    assert limits_from_config(SandboxConfig()) == Limits()


def test_arguments_cross_by_value():
    with ready(BACKEND) as sandbox:
        sandbox.load("def f(xs):\n    xs.append(1)\n    return xs")
        argument: list[int] = []
        assert sandbox.call("f", argument) == [1]
        assert argument == []


def test_state_lasts_from_call_to_call_and_not_from_program_to_program():
    counter = "n = 0\ndef f():\n    global n\n    n += 1\n    return n"
    for _ in range(2):
        with ready(BACKEND) as sandbox:
            sandbox.load(counter)
            assert [sandbox.call("f"), sandbox.call("f")] == [1, 2]


def test_a_result_of_another_type_is_a_breach():
    with ready(BACKEND) as sandbox:
        sandbox.load("def f(): return (x for x in 'ab')")
        with pytest.raises(ProgramRaisedError, match="'generator', which is no literal"):
            sandbox.call("f")
        assert sandbox.breach
        assert sandbox.failure is None


def test_an_argument_that_cannot_cross_is_the_tests_fault():
    with ready(BACKEND) as sandbox:
        sandbox.load("def f(x): return x")
        with pytest.raises(UnfitTestError, match="argument that is no literal: function"):
            sandbox.call("f", lambda: 1)


def test_an_ended_program_answers_no_more():
    with ready(BACKEND) as sandbox:
        with pytest.raises(ProgramFailedError):
            sandbox.load("import os\nos._exit(0)")
        with pytest.raises(ProgramFailedError):
            sandbox.call("f")
        assert sandbox.failure == "crash"


@pytest.mark.parametrize(
    ("program", "output"),
    [
        ("print(input()[::-1], input())", "cba é\n"),
        ("import sys\nprint(sys.stdin.read().count('\\n'))", "2\n"),
        ("import sys\nprint(len(sys.stdin.buffer.read()))", "7\n"),
        ("print(open(0).read(), end='')", "abc\né\n"),
        ("import sys\nsys.stdout.write('no newline')\nsys.exit()", "no newline"),
        ("if __name__ == '__main__': print('main')", "main\n"),
        ("import threading\nthreading.Thread(target=lambda: print('late')).start()", "late\n"),
        ("import atexit\natexit.register(print, 'last')\nprint('first')", "first\nlast\n"),
        ("print('x' * 10**6)", "x" * 10**6 + "\n"),
    ],
)
def test_a_program_is_run_as_a_script(program: str, output: str):
    with ready(BACKEND) as sandbox:
        assert sandbox.run(program, "abc\né\n") == output


@pytest.mark.parametrize(
    ("program", "failure"),
    [
        ("print(1)\nraise ValueError", "crash"),
        ("print(1)\nraise SystemExit(3)", "crash"),
        ("def f(:", "crash"),
        ("import os\nos.kill(os.getpid(), 9)", "crash"),
        ("while True: pass", "timeout"),
        ("import time\ntime.sleep(100)", "timeout"),
        ("import os\nos.close(1)\nimport time\ntime.sleep(100)", "timeout"),
    ],
)
def test_outcomes_are_distinguished(program: str, failure: str):
    with ready(BACKEND, Limits(cpu_s=1, wall_s=6.0)) as sandbox:
        assert sandbox.run(program, "") is None
        assert sandbox.failure == failure


def test_a_large_input_and_a_large_result_cross():
    with ready(BACKEND) as sandbox:
        sandbox.load("def f(xs): return [x + 1 for x in xs]")
        assert sandbox.call("f", list(range(300_000))) == list(range(1, 300_001))
    with ready(BACKEND) as sandbox:
        assert sandbox.run("print(len(input()))", "x" * 5_000_000) == "5000000\n"


def test_the_clock_starts_when_the_program_does():
    sandbox = Sandbox(BACKEND, Limits(wall_s=1.0), python_for(BACKEND))
    time.sleep(1.5)
    with sandbox:
        sandbox.wait_until_ready()
        sandbox.load("def f(): return 1")
        assert sandbox.call("f") == 1


def test_a_sandbox_that_does_not_start_raises(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("unmask.sandbox.command.BOOT", "raise SystemExit(7)")
    with (
        Sandbox(BACKEND, Limits()) as sandbox,
        pytest.raises(RuntimeError, match=r"did not start.*unmask doctor"),
    ):
        sandbox.wait_until_ready()


def test_a_sandbox_that_ended_while_it_waited_raises(monkeypatch: pytest.MonkeyPatch):
    boot = "import os; os.write(0, b'ready\\n'); os._exit(7)"
    monkeypatch.setattr("unmask.sandbox.command.BOOT", boot)
    with Sandbox(BACKEND, Limits()) as sandbox:
        sandbox._process.wait()
        with pytest.raises(RuntimeError, match=r"did not start \(status 7\)"):
            sandbox.wait_until_ready()


def test_an_input_larger_than_a_file_may_be_is_the_tests_fault():
    too_large = pytest.raises(UnfitTestError, match=r"has 1\.0 MiB, .*file_mb = 1: raise it")
    with ready(BACKEND, Limits(file=2**20)) as sandbox, too_large:
        sandbox.run("print(len(input()))", "x" * (2**20 + 1))
    with ready(BACKEND, Limits(file=2**20)) as sandbox:
        assert sandbox.run("print(len(input()))", "x" * 2**20) == f"{2**20}\n"


def test_close_ends_the_process_and_may_be_called_twice():
    sandbox = ready(BACKEND)
    sandbox.load("import time\ndef f(): return 1")
    sandbox.close()
    sandbox.close()
    with pytest.raises(ProgramFailedError):
        sandbox.call("f")
