"""Verifier workers: verdicts in order, late and ended workers replaced, no process left, a broken verifier raises."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from unmask.sandbox.isolation import best_backend
from unmask.sandbox.verifier_pool import Verdict, VerifierPool, score_from_verdict

TOY = """
    import os, socket, time
    from unmask.sandbox.verifier_pool import Verdict

    def make(offset=0):
        def verify(item):
            if item == "hang":
                time.sleep(600)
            match str(item).split():
                case ["hang", "once", path]:
                    if not os.path.exists(path):
                        open(path, "w").close()
                        time.sleep(600)
                    return 1.0
            if item == "hold the lock":
                (9**9)**(9**9)
            if item == "rest":
                time.sleep(1)
            if item == "spin":
                while True: pass
            if item == "late":
                return Verdict(0.0, "timeout")
            match str(item).split():
                case ["exists", path]:
                    return os.path.exists(path)
                case ["environ", name]:
                    return name in os.environ
                case ["reach", port]:
                    try:
                        socket.create_connection(("127.0.0.1", int(port)), 2).close()
                    except OSError:
                        return 0.0
                    return 1.0
            if item == "die":
                os._exit(3)
            if item == "leave":
                raise SystemExit(0)
            if item == "lose the service":
                raise ConnectionResetError("the service is down")
            if item == "raise":
                raise KeyError("a bug in the verifier")
            if item == "nan":
                return float("nan")
            if item == "chatter":
                os.write(1, b"1.0\\n")
                print("2.0")
            if isinstance(item, str):
                return len(item)
            return item + offset
        return verify

    def slow_import():
        while time.process_time() < 1.0: pass
        return make()

    def cannot_start():
        import no_such_package

    def dies_at_start():
        os._exit(7)
"""


@pytest.fixture(autouse=True, scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("toy")
    (folder / "toy_verifier.py").write_text(textwrap.dedent(TOY))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


@pytest.fixture(scope="module")
def pool(toy: Path) -> Iterator[VerifierPool]:
    with VerifierPool("toy_verifier:make", {"offset": 0.5}, time_limit_s=0.5) as pool:
        yield pool


def is_alive(pid: int) -> bool:
    # A process that has ended but was not yet collected by its new parent is no leak.
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def has_ended(pid: int) -> bool:
    """Wait for a process that should end within moments; far longer, so that load is no failure."""
    deadline = time.monotonic() + 60
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_alive(pid)


def pid_of(pool: VerifierPool) -> int:
    pool.grade([0])
    return pool._workers[0].child.process.pid


def test_an_isolated_verifier_can_access_packages_only(
    pool: VerifierPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if best_backend() == "limits":
        pytest.skip("no namespaces here: `unmask doctor` says why")
    (tmp_path / "secret").write_text("x")
    monkeypatch.setenv("UNMASK_TEST_API_KEY", "x")
    with socket.create_server(("127.0.0.1", 0)) as server:
        reach = f"reach {server.getsockname()[1]}"
        places = [str(tmp_path / "secret"), str(Path.home() / ".ssh"), "/etc/passwd", "/home"]
        questions = [reach, "environ UNMASK_TEST_API_KEY", *(f"exists {place}" for place in places)]
        with VerifierPool("toy_verifier:make", {}) as fresh:
            assert {verdict.score for verdict in fresh.grade(questions)} == {0.0}
        with VerifierPool("toy_verifier:make", {}, is_isolated=False) as open_to_all:
            assert open_to_all.grade([reach, f"exists {places[0]}"]) == [Verdict(1.0)] * 2


def test_processor_time_decides_and_not_the_clock():
    with VerifierPool("toy_verifier:make", {}, time_limit_s=0.5) as pool:
        assert pool.grade(["rest", "spin"]) == [Verdict(4.0), Verdict(0.0, "timeout")]


def test_an_item_that_met_the_clock_is_tried_again(tmp_path: Path):
    item = f"hang once {tmp_path / 'tried'}"
    with VerifierPool("toy_verifier:make", {}, wall_limit_s=3.0, is_isolated=False) as pool:
        assert pool.grade([2, item, 3]) == [Verdict(2.0), Verdict(1.0), Verdict(3.0)]
    assert (tmp_path / "tried").exists()


def test_an_item_that_keeps_meeting_the_clock_is_an_error_and_no_zero():
    message = r"limit of 0\.5 s by the clock 3 times.*no verdict.*overloaded.*begins 'hang'"
    with (
        VerifierPool("toy_verifier:make", {}, wall_limit_s=0.5) as short,
        pytest.raises(TimeoutError, match=message),
    ):
        short.grade(["hang"])


def test_a_verifier_may_say_that_it_ran_out_of_time_itself():
    with VerifierPool("toy_verifier:make", {}) as pool:
        assert pool.grade(["late"]) == [Verdict(0.0, "timeout")]


def test_verdicts_come_in_the_order_of_the_items(pool: VerifierPool):
    assert pool.grade(list(range(300))) == [Verdict(i + 0.5) for i in range(300)]
    assert pool.grade([]) == []


def test_several_workers_keep_the_order():
    with VerifierPool("toy_verifier:make", {}, workers=3, time_limit_s=0.5) as pool:
        items = [*range(200), "die", *range(200), "spin", *range(200)]
        verdicts = pool.grade(items)
    assert [v.score for v in verdicts] == [i if isinstance(i, int) else 0.0 for i in items]
    assert [v.error for v in verdicts if v.error] == ["crash", "timeout"]


def test_a_worker_lives_from_call_to_call(pool: VerifierPool):
    assert pid_of(pool) == pid_of(pool)


@pytest.mark.parametrize("item", ["spin", "hold the lock"])
def test_a_worker_over_the_limit_is_killed_and_the_other_items_are_graded(
    pool: VerifierPool, item: str
):
    first = pid_of(pool)
    verdicts = pool.grade([1, item, 2, 3])
    assert verdicts == [Verdict(1.5), Verdict(0.0, "timeout"), Verdict(2.5), Verdict(3.5)]
    assert not is_alive(first)


@pytest.mark.parametrize("item", ["die", "leave"])
def test_a_worker_that_ends_is_replaced(pool: VerifierPool, item: str):
    verdicts = pool.grade([1, item, 2])
    assert verdicts == [Verdict(1.5), Verdict(0.0, "crash"), Verdict(2.5)]


def test_a_worker_that_died_between_calls_costs_no_item(pool: VerifierPool):
    pid = pid_of(pool)
    os.kill(pid, signal.SIGKILL)
    assert has_ended(pid)
    assert pool.grade([1, 2]) == [Verdict(1.5), Verdict(2.5)]


def test_start_up_is_on_no_items_clock():
    with VerifierPool("toy_verifier:slow_import", {}, time_limit_s=0.5) as pool:
        assert pool.grade([1]) == [Verdict(1.0)]


def test_items_larger_than_a_pipe_do_not_block(pool: VerifierPool):
    large = "x" * 2**20
    verdicts = pool.grade([large, "spin", large])
    assert [v.score for v in verdicts] == [2**20, 0.0, 2**20]


def test_printing_does_not_affect_the_verdicts(pool: VerifierPool):
    assert pool.grade(["chatter", 1]) == [Verdict(7.0), Verdict(1.5)]


@pytest.mark.parametrize(("item", "message"), [("raise", "a bug in the verifier"), ("nan", "nan")])
def test_a_verifier_that_raises_or_returns_no_number_stops_the_caller(
    pool: VerifierPool, item: str, message: str
):
    with pytest.raises(RuntimeError, match=rf"(?s)toy_verifier:make cannot run.*{message}"):
        pool.grade([1, item, 2])
    assert pool.grade([1]) == [Verdict(1.5)]


def test_a_verifier_that_loses_its_service_raises_one_sentence(pool: VerifierPool):
    with pytest.raises(ConnectionError, match=r"^the service is down$"):
        pool.grade([1, "lose the service", 2])
    assert pool.grade([1]) == [Verdict(1.5)]


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("toy_verifier:cannot_start", "no_such_package"),
        ("toy_verifier:dies_at_start", "status 7"),
        ("no_such_module:make", "no_such_module"),
    ],
)
def test_a_verifier_that_cannot_start_raises(factory: str, message: str):
    with VerifierPool(factory, {}) as pool, pytest.raises(RuntimeError, match=message):
        pool.grade([1])


def test_close_leaves_no_process(pool: VerifierPool):
    pid = pid_of(pool)
    pool.close()
    assert not is_alive(pid)
    assert pid_of(pool) != pid


@pytest.mark.parametrize("ending", ["return", "raise", "killed while idle", "killed while hanging"])
def test_no_worker_outlives_its_parent(ending: str, toy: Path):
    program = f"""
        import sys
        sys.path.insert(0, {str(toy)!r})
        from unmask.sandbox.verifier_pool import VerifierPool
        pool = VerifierPool("toy_verifier:make", {{}}, wall_limit_s=1.0)
        pool.grade([0])
        print(pool._workers[0].child.process.pid, flush=True)
        ending = {ending!r}
        if ending == "raise":
            raise SystemExit(1)
        if ending == "killed while idle":
            sys.stdin.read()
        if ending == "killed while hanging":
            pool.grade(["hang"])
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        if ending.startswith("killed"):
            time.sleep(0.1)
            parent.kill()
        parent.wait()
        assert has_ended(pid)


def test_a_missing_verdict_is_counted_and_a_graded_score_may_be_made_exact():
    late = score_from_verdict(Verdict(0.0, "timeout"), exact=True)
    assert late.reward == 0.0
    assert late.parts == {"graded": 0.0, "verifier_timeout": 1.0, "verifier_crash": 0.0}
    assert score_from_verdict(Verdict(0.0, "crash"), exact=False).parts["verifier_crash"] == 1.0
    assert score_from_verdict(Verdict(0.9), exact=True).reward == 0.0
    assert score_from_verdict(Verdict(0.9), exact=False).reward == 0.9
    assert score_from_verdict(Verdict(1.0), exact=True).reward == 1.0
