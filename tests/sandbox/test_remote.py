"""Programs in a service get the verdicts of a local sandbox; a failing service gives none."""

import json
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.rewards.run_code_server import RunCodeServer, run_code_server
from unmask.configs.sandbox import SandboxConfig
from unmask.rewards.code import CodeGrader
from unmask.rewards.code_tests import CallTest, CodeTest, SourceTest, StdioTest, run_test
from unmask.sandbox.limits import (
    Limits,
    ProgramFailedError,
    ProgramRaisedError,
    UnfitTestError,
)
from unmask.sandbox.remote import TRIES, RemoteSandbox

LIMITS = Limits(cpu_s=1, wall_s=60.0)


@pytest.fixture(scope="module")
def service() -> Iterator[RunCodeServer]:
    with run_code_server() as server:
        yield server


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unmask.sandbox.remote.PAUSE_S", 0.0)


def loaded(service: RunCodeServer, program: str, limits: Limits = LIMITS) -> RemoteSandbox:
    sandbox = RemoteSandbox(service.url, limits)
    sandbox.load(program)
    return sandbox


@pytest.mark.parametrize(
    "value",
    [7, 10**30, -1.5, "a\nb", b"\0\xff", None, True, (1, [2, {"k": {3}}]), 2j, frozenset("a")],
)
def test_values_cross_as_literals(service: RunCodeServer, value: object):
    found = loaded(service, "def f(x, *, y): return y").call("f", 1, y=value)
    assert found == value and type(found) is type(value)


def test_the_state_of_earlier_calls_is_there(service: RunCodeServer):
    program = "seen = []\ndef f(x):\n    print('noise')\n    seen.append(x)\n    return seen"
    sandbox = loaded(service, program)
    assert [sandbox.call("f", n) for n in range(3)] == [[0], [0, 1], [0, 1, 2]]
    assert loaded(service, program).call("f", 9) == [9]


def test_a_method_of_a_fresh_object_is_called(service: RunCodeServer):
    program = "class Solution:\n    def double(self, x): return 2 * x"
    assert loaded(service, program).call("Solution().double", 4) == 8


def test_exceptions_of_a_program_are_raised(service: RunCodeServer):
    program = (
        "class Own(Exception): pass\n"
        "def f(x):\n    raise ValueError('no') if x else Own('mine')\n"
        "def g(): return 1"
    )
    sandbox = loaded(service, program)
    with pytest.raises(ValueError, match="no") as caught:
        sandbox.call("f", 1)
    assert caught.value is sandbox.raised
    with pytest.raises(ProgramRaisedError, match="Own: mine"):
        sandbox.call("f", 0)
    with pytest.raises(NameError):
        sandbox.call("absent")
    assert sandbox.call("g") == 1 and sandbox.failure is None
    with pytest.raises(SyntaxError):
        loaded(service, "def f(:")


def test_an_object_of_the_programs_own_is_a_breach(service: RunCodeServer):
    sandbox = loaded(
        service, "class Yes:\n    def __eq__(self, o): return True\ndef f(): return Yes()"
    )
    with pytest.raises(ProgramRaisedError, match="'Yes'"):
        sandbox.call("f")
    assert sandbox.breach


def test_an_argument_that_cannot_cross_is_the_tests_fault(service: RunCodeServer):
    with pytest.raises(UnfitTestError, match="function"):
        loaded(service, "def f(x): return x").call("f", lambda: 0)


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        ("while True: pass", "timeout"),
        ("import os; os._exit(3)", "crash"),
        ("import os; os.kill(os.getpid(), 9)", "crash"),
        ("import os; os._exit(0)", "crash"),
        # Answers of its own making, without the number, doubled, or of the wrong kind.
        ("import os; [os.write(fd, b'[1, \"value\", 7]\\n') for fd in (3, 4, 5)]", "crash"),
        ("import os; [os.write(fd, b'[' * 100_000) for fd in (3, 4, 5)]", "crash"),
    ],
)
def test_a_program_that_ends_or_forges_has_failed(service: RunCodeServer, body: str, failure: str):
    sandbox = loaded(service, f"def f():\n    {body}\n    return 7")
    with pytest.raises(ProgramFailedError):
        sandbox.call("f")
    assert sandbox.failure == failure
    with pytest.raises(ProgramFailedError):
        sandbox.call("f")


def test_a_program_that_sleeps_is_ended_by_the_clock(service: RunCodeServer):
    sandbox = loaded(service, "import time\ndef f(): time.sleep(600)", Limits(cpu_s=1, wall_s=5.0))
    with pytest.raises(ProgramFailedError):
        sandbox.call("f")
    assert sandbox.failure == "timeout"


def test_a_program_is_run_with_its_standard_input(service: RunCodeServer):
    sandbox = RemoteSandbox(service.url, LIMITS)
    assert sandbox.run("print(sum(map(int, open(0).read().split())))", "1 2\n3\n") == "6\n"
    assert sandbox.run("import sys\nprint(input())\nsys.exit()", "x") == "x\n"
    assert sandbox.failure is None


@pytest.mark.parametrize(
    ("program", "failure"),
    [("raise SystemExit(3)", "crash"), ("1 / 0", "crash"), ("while 1: pass", "timeout")],
)
def test_a_run_that_fails_has_a_reason(service: RunCodeServer, program: str, failure: str):
    sandbox = RemoteSandbox(service.url, LIMITS)
    assert sandbox.run(program, "") is None
    assert sandbox.failure == failure


def test_printing_too_much_is_a_crash(service: RunCodeServer, monkeypatch: pytest.MonkeyPatch):
    for limits in (Limits(cpu_s=5, output=1000), Limits(cpu_s=5)):
        sandbox = RemoteSandbox(service.url, limits)
        assert sandbox.run("print('x' * 5000)", "") is None
        assert sandbox.failure == "crash"
        monkeypatch.setattr("unmask.sandbox.remote.MAX_REPLY_BYTES", 1000)


def test_the_request_is_the_published_one(service: RunCodeServer):
    service.bodies.clear()
    RemoteSandbox(f"{service.url}/", Limits(wall_s=7.5, memory=2**28)).run("print(1)", "in")
    (body,) = service.bodies
    assert "print(1)" in body.pop("code")
    assert body == {
        "language": "python",
        "stdin": "in",
        "run_timeout": 7.5,
        "memory_limit_MB": 256,
    }


ENDED = {"status": "Finished", "return_code": 0, "stdout": "1"}
FAILURES = [
    (500, b"busy"),
    (404, b"no such path"),
    (302, b""),
    (200, b""),
    (200, b"[]"),
    (200, b"[" * 50_000),
    (200, b'{"status": "Success"}'),
    (200, b'{"status": "SandboxError", "message": "no cgroup", "run_result": null}'),
    (200, json.dumps({"status": "SandboxError", "run_result": ENDED}).encode()),
    (200, json.dumps({"status": "Success", "run_result": ENDED | {"status": "Error"}}).encode()),
    (200, json.dumps({"status": "Success", "run_result": ENDED | {"return_code": None}}).encode()),
    (200, json.dumps({"status": "Success", "run_result": ENDED | {"stdout": 1}}).encode()),
]


@pytest.mark.parametrize("failure", FAILURES)
def test_a_service_that_fails_is_asked_again_and_then_raises(
    service: RunCodeServer, failure: tuple[int, bytes]
):
    sandbox = RemoteSandbox(service.url, LIMITS)
    service.plan = [failure] * (TRIES - 1)
    assert sandbox.run("print(1)", "") == "1\n"
    service.plan = [failure] * TRIES
    with pytest.raises(
        ConnectionError, match=rf"task\.sandbox\.url: {service.url}.*\({TRIES} tries"
    ):
        sandbox.run("print(1)", "")
    assert sandbox.failure is None


def test_a_service_that_is_down_raises():
    with run_code_server() as server:
        pass
    with pytest.raises(ConnectionError, match="ConnectionRefusedError"):
        loaded(server, "def f(): return 1")


@pytest.mark.parametrize(
    ("test", "right", "wrong"),
    [
        (
            SourceTest("xs = [f(n) for n in (1, 2)]\nassert xs == [1, 3]", ("f",)),
            "total = 0\ndef f(n):\n    global total\n    total += n\n    return total",
            "def f(n): return n",
        ),
        (
            CallTest("Solution().g", (3,), [1, 2]),
            "class Solution:\n    def g(self, n): return (1, 2)",
            "",
        ),
        (StdioTest("3", "9"), "print(int(input()) ** 2)", "print(input())"),
    ],
)
def test_every_kind_of_test_runs(service: RunCodeServer, test: CodeTest, right: str, wrong: str):
    for program, outcome in ((right, "passed"), (wrong, "wrong")):
        with RemoteSandbox(service.url, LIMITS) as sandbox:
            assert run_test(sandbox, program, test) == outcome


def test_a_grader_uses_the_service_and_stops_with_one_sentence_where_it_fails():
    tests = [StdioTest("3", "9"), CallTest("f", (2,), 4)]
    program = "def f(x): return x * x\nif __name__ == '__main__': print(f(int(input())))"
    with (
        run_code_server() as server,
        closing(CodeGrader(SandboxConfig(url=server.url, credit="share"))) as grader,
    ):
        (right, wrong) = grader.grade([(program, tests), ("def f(x): return 4", tests)])
        assert right.outcomes == ("passed", "passed")
        assert wrong.outcomes == ("wrong", "passed")
        server.plan = [(500, b"out of disk")] * 100
        with pytest.raises(ConnectionError, match=r"^task\.sandbox\.url: .*out of disk"):
            grader.grade([(program, tests)])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"url": "localhost:8080"}, "write it as http://host:port"),
        ({"url": "http://me:secret@host"}, "no user or password"),
        (
            {"url": "http://host", "isolation": "process"},
            "isolation = process has no effect with url",
        ),
        ({"url": "http://host", "processes": 2}, "processes = 2 has no effect with url"),
    ],
)
def test_keys_that_the_service_decides_are_refused_with_url(keys: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        SandboxConfig.model_validate(keys)


def test_objects_of_the_program_stay_there(service: RunCodeServer):
    program = (
        "class Pair:\n    def __init__(self, x): self.x = x\ndef total(p): return p.x + p.other.x"
    )
    test = SourceTest(
        "assert total(a) == 3",
        ("Pair", "total"),
        setup="a = Pair(1)\na.other = Pair(2)",
        has_objects=True,
    )
    with RemoteSandbox(service.url, LIMITS) as sandbox:
        assert run_test(sandbox, program, test) == "passed"


def test_a_service_that_fails_during_a_call_raises():
    with (
        RemoteSandbox("http://127.0.0.1:9", LIMITS) as sandbox,
        pytest.raises(ConnectionError, match=r"task\.sandbox\.url"),
    ):
        run_test(sandbox, "def f(x): return x", CallTest("f", (1,), 1))
