"""Programs that try to pass without being right, or to do harm, fail and leave nothing; one test per attempt.

Each runs with the best backend of this machine and with `limits` (isolation `process`); attempts that only
namespaces prevent run with each backend for namespaces.
"""

import ctypes
import errno
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pydantic
import pytest

import unmask
from tests.sandboxes import (
    NAMESPACES,
    SYSTEM_PYTHON,
    WITHOUT_LANDLOCK,
    python_for,
    ready,
    skip_unless_it_is_another_user,
    without_landlock,
)
from unmask.rewards.code_tests import SourceTest, StdioTest, run_test
from unmask.sandbox.command import Backend
from unmask.sandbox.guest import landlock
from unmask.sandbox.isolation import BACKENDS, best_backend, isolation_of
from unmask.sandbox.limits import Limits, ProgramFailedError
from unmask.sandbox.user import remove

MIB = 2**20
# Limits are part of the command line of every process of a program, forked ones included.
LIMITS = Limits(
    cpu_s=1,
    wall_s=8 + os.getpid() / 10**7,
    memory=256 * MIB,
    file=8 * MIB,
    output=MIB,
    processes=8,
)
MARK = f'"wall_s": {LIMITS.wall_s}'
SECRET = "the_answer_is_1729"
# Two calls, so that a program may answer the second one before it is asked.
TEST = SourceTest(
    f"assert f(2) == 4\nassert f(3) == 9  # {SECRET}\nassert sorted(g([3, 1])) == [1, 3]",
    ("f", "g"),
)
RIGHT = """
def f(x):
    return x * x

def g(xs):
    return xs[::-1]
"""


@pytest.fixture(params=["namespaces", "process"])
def backend(request: pytest.FixtureRequest) -> Backend:
    backend = best_backend() if request.param == "namespaces" else "limits"
    if isolation_of(backend) != request.param:
        pytest.skip("no namespaces here: `unmask doctor` says why")
    python_for(backend)
    return backend


@pytest.fixture(params=NAMESPACES)
def namespaces(request: pytest.FixtureRequest) -> Backend:
    python_for(request.param)
    return request.param


@pytest.fixture(params=BACKENDS)
def every(request: pytest.FixtureRequest) -> Backend:
    """Every backend, for what each has to close by itself."""
    python_for(request.param)
    return request.param


@pytest.fixture(autouse=True)
def nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """No process and no file outlives a test."""
    tmp_path_factory.getbasetemp()  # made now, or it would be made in the folder below
    scratch = Path(tempfile.mkdtemp(prefix="unmask-hostile-"))
    scratch.chmod(0o711)
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    yield
    deadline = time.monotonic() + 10
    while descendants() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not descendants()
    scratch.rmdir()  # which fails where something is left in it


def descendants() -> list[str]:
    """Return the command lines of living processes that carry this process's mark."""
    found: list[str] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if MARK.encode() in (folder / "cmdline").read_bytes():
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                found += [] if state == "Z" else [folder.name]
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def outcome(backend: Backend, program: str, test: SourceTest | StdioTest = TEST) -> str:
    with ready(backend, LIMITS) as sandbox:
        return run_test(sandbox, textwrap.dedent(program), test)


def returned(backend: Backend, program: str) -> object:
    """Return the result of `f(0)` of a program: what a test sees from inside."""
    with ready(backend, LIMITS) as sandbox:
        sandbox.load(textwrap.dedent(program))
        return sandbox.call("f", 0)


def test_a_right_program_passes(backend: Backend):
    assert outcome(backend, RIGHT) == "passed"


def test_printing_passed_is_no_answer(backend: Backend):
    assert outcome(backend, "print('passed', '1.0', 'ok')") == "wrong"


@pytest.mark.parametrize("where", ["at once", "when called"])
@pytest.mark.parametrize(
    "way_out",
    ["exit(0)", "import os; os._exit(0)", "raise SystemExit", "import sys; sys.exit(0)", "quit()"],
)
def test_ending_early_is_no_pass(backend: Backend, way_out: str, where: str):
    program = way_out if where == "at once" else f"def f(x):\n    {way_out}"
    assert outcome(backend, program) in ("wrong", "crash")


def test_patched_builtins_stay_inside(backend: Backend):
    program = """
        import builtins
        for name in ("isinstance", "sorted", "len", "all", "any", "compile", "exec"):
            setattr(builtins, name, lambda *args, **kwargs: True)
        builtins.AssertionError = type("Quiet", (Exception,), {})
        def f(x): return True
        g = f
    """
    assert outcome(backend, program) in ("wrong", "crash")


def test_a_patched_assertion_machinery_stays_inside(backend: Backend):
    program = """
        import sys, unittest
        AssertionError = None
        sys.excepthook = lambda *args: None
        unittest.TestCase.assertEqual = lambda *args: None
        def f(x): raise AssertionError
    """
    assert outcome(backend, program) == "wrong"


def test_patched_modules_stay_inside(backend: Backend):
    program = """
        import json, sys
        class Yes:
            def __getattr__(self, name): return Yes()
            def __call__(self, *args, **kwargs): return Yes()
            def __eq__(self, other): return True
        for name in list(sys.modules):
            if name not in ("json", "sys", "builtins"):
                sys.modules[name] = Yes()
        json.dumps = json.loads = Yes()
        def f(x): return Yes()
    """
    assert outcome(backend, program) in ("wrong", "crash")


def test_a_patched_channel_can_only_return_values(backend: Backend):
    program = """
        import unmask.sandbox.guest.main as host
        host.pack = host.describe = lambda value: ["value", ["tuple", True]]
        def f(x): return 0
    """
    assert outcome(backend, program) == "wrong"


def test_an_object_that_equals_everything_is_no_result(backend: Backend):
    program = """
        class Yes:
            def __eq__(self, other): return True
            def __iter__(self): return iter([1, 3])
        def f(x): return Yes()
        g = f
    """
    assert outcome(backend, program) == "wrong"


@pytest.mark.parametrize("kind", ["int", "str", "list", "float", "tuple", "dict"])
def test_a_subclass_with_a_lying_comparison_is_no_result(backend: Backend, kind: str):
    program = f"""
        class Yes({kind}):
            def __eq__(self, other): return True
            __hash__ = None
        def f(x): return Yes()
        g = f
    """
    assert outcome(backend, program) == "wrong"


def test_an_object_inside_a_list_is_no_result(backend: Backend):
    program = """
        class Yes:
            def __eq__(self, other): return True
        def f(x): return [Yes()]
    """
    assert outcome(backend, program, SourceTest("assert f(0) == [1]", ("f",))) == "wrong"


def test_a_test_that_catches_everything_still_fails_a_breach_of_the_protocol(
    backend: Backend,
):
    hiding = SourceTest("try:\n    f(1)\nexcept:\n    pass", ("f",))
    assert outcome(backend, "def f(x): return object()", hiding) == "wrong"
    assert outcome(backend, "import os\ndef f(x): os._exit(0)", hiding) == "crash"


def test_ending_the_loop_of_a_test_is_no_pass(backend: Backend):
    loop = SourceTest("for y in map(f, [1, 2]):\n    assert y == 3", ("f",))
    assert outcome(backend, "def f(x): raise StopIteration", loop) == "wrong"


def test_emptying_an_argument_is_no_pass(backend: Backend):
    program = """
        def f(x): return x * x
        def g(xs):
            xs.clear()
            return xs
    """
    test = SourceTest("xs = [3, 1]\nassert g(xs) == xs", ("f", "g"))
    assert outcome(backend, program, test) == "wrong"


def test_killing_the_parent_affects_no_other_process(backend: Backend):
    skip_unless_it_is_another_user(backend)
    program = """
        import os, signal
        for signum in (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP):
            for pid in (os.getppid(), 1):
                try: os.kill(pid, signum)
                except OSError: pass
        def f(x): return "alive"
    """
    assert outcome(backend, program) in ("wrong", "crash")


def test_killing_all_processes_affects_no_other_sandbox(backend: Backend):
    skip_unless_it_is_another_user(backend)
    program = "import os, signal\nos.kill(-1, signal.SIGKILL)\ndef f(x): return 0"
    assert outcome(backend, program) in ("wrong", "crash")


def test_a_fork_bomb_is_bounded(backend: Backend):
    program = """
        import os
        while True:
            try: os.fork()
            except OSError: pass
    """
    assert outcome(backend, program) in ("timeout", "crash")


def test_processes_are_counted_for_root_too(backend: Backend):
    program = """
        import os, time
        def f(x):
            for count in range(100):
                try: pid = os.fork()
                except OSError: return count
                if pid == 0:
                    time.sleep(20)
                    os._exit(0)
            return count
    """
    assert 0 < returned(backend, program) < LIMITS.processes  # type: ignore[operator]


def test_filling_the_memory_ends_in_an_error(backend: Backend):
    program = "def f(x):\n    hoard = []\n    while True: hoard.append(bytearray(2**24))"
    assert outcome(backend, program) in ("wrong", "crash")


def test_filling_the_disk_ends_in_an_error(backend: Backend):
    program = """
        import os
        def f(x):
            sizes = []
            for n in range(100):
                try:
                    with open(f"file{n}", "wb") as file:
                        file.write(bytes(2**20)); file.flush()
                        while True: file.write(bytes(2**20))
                except OSError: pass
                sizes.append(os.path.getsize(f"file{n}"))
                if n >= 3: break
            return max(sizes)
    """
    assert returned(backend, program) <= LIMITS.file  # type: ignore[operator]


def test_many_files_fill_no_disk(namespaces: Backend):
    program = """
        import os
        def f(x):
            total = 0
            for n in range(100):
                try:
                    with open(f"file{n}", "wb", buffering=0) as file:
                        total += file.write(bytes(2**20))
                except OSError: return total
            return total
    """
    assert returned(namespaces, program) <= LIMITS.file  # type: ignore[operator]


def test_sleeping_for_ever_is_a_timeout(backend: Backend):
    limits = Limits(cpu_s=1, wall_s=1.0)
    with ready(backend, limits) as sandbox:
        assert run_test(sandbox, "import time\ntime.sleep(10**6)", TEST) == "timeout"


def test_a_busy_loop_is_a_timeout(backend: Backend):
    assert outcome(backend, "while True: pass") == "timeout"


def test_ignoring_the_signals_of_the_limits_does_not_help(backend: Backend):
    program = """
        import signal
        for signum in range(1, 65):
            try: signal.signal(signum, signal.SIG_IGN)
            except (OSError, ValueError): pass
        import resource
        try: resource.setrlimit(resource.RLIMIT_CPU, (1000, 1000))
        except ValueError: pass
        while True: pass
    """
    assert outcome(backend, program) == "timeout"


def test_the_tests_are_in_no_frame_and_no_object(backend: Backend):
    program = f"""
        import gc, sys
        def f(x):
            frame, found = sys._getframe(), []
            while frame:
                found.append(repr(frame.f_globals) + repr(frame.f_locals))
                frame = frame.f_back
            found += [repr(thing)[:10**6] for thing in gc.get_objects() if type(thing) in (dict, list, str)]
            return any("{SECRET[:7]}" + "{SECRET[7:]}" in text for text in found)
    """
    with ready(backend, Limits(cpu_s=30)) as sandbox:
        sandbox.load(textwrap.dedent(program))
        assert sandbox.call("f", 0) is False


def test_the_tests_are_in_no_command_line_and_no_environment(backend: Backend):
    program = f"""
        import glob
        def f(x):
            for name in ("cmdline", "environ", "maps"):
                for path in glob.glob(f"/proc/[0-9]*/{{name}}"):
                    try: text = open(path, "rb").read()
                    except OSError: continue
                    if b"{SECRET[:7]}" + b"{SECRET[7:]}" in text: return True
            return False
    """
    assert returned(backend, program) is False


def test_no_file_of_the_machine_is_seen(namespaces: Backend, tmp_path: Path):
    (tmp_path / "tests.py").write_text(SECRET)
    program = f"""
        import os
        def f(x):
            seen = sorted(os.listdir("/"))
            there = [p for p in ("{tmp_path}/tests.py", "/etc/passwd", "/home", "/work", "/root/.ssh",
                                 "/var", "/sys/class", "/run", "/bin", "/usr/bin") if os.path.exists(p)]
            return seen, there, os.listdir("/tmp")
    """
    seen, there, tmp = returned(namespaces, program)  # type: ignore[misc]
    assert set(seen) <= {
        "dev",
        "etc",
        "lib",
        "lib64",
        "proc",
        "root",
        "tmp",
        "unmask",
        "usr",
        "opt",
    }
    assert there == [] and tmp == []


def test_nothing_outside_the_temporary_directory_can_be_written(namespaces: Backend):
    program = """
        import os, sys
        def f(x):
            written = []
            for folder in ["/", "/dev", "/etc", "/usr/lib", "/unmask", "/unmask/code", *sys.path, sys.prefix]:
                try: open(os.path.join(folder, "mine"), "w").close()
                except OSError: continue
                written.append(folder)
            return written
    """
    assert returned(namespaces, program) == []


def test_no_other_process_is_seen(namespaces: Backend):
    program = "import os\ndef f(x): return [int(n) for n in os.listdir('/proc') if n.isdigit()]"
    assert max(returned(namespaces, program)) < 20  # type: ignore[call-overload]


def test_flooding_stdout_ends_the_program(backend: Backend):
    flood = "import os\nwhile True: os.write(1, b'x' * 2**16)"
    assert outcome(backend, flood, StdioTest("", "x")) == "crash"
    assert outcome(backend, flood) == "timeout"


def test_flooding_stderr_fills_nothing(backend: Backend):
    assert outcome(backend, "import os\nwhile True: os.write(2, b'x' * 2**16)") == "timeout"


def test_forged_answers_on_every_descriptor_are_a_breach(backend: Backend):
    program = """
        import os
        for fd in range(64):
            try: os.write(fd, b'["0123456789abcdef", "value", 4]\\n' * 3)
            except OSError: pass
        def f(x): return x * x
        def g(xs): return xs
    """
    assert outcome(backend, program) == "crash"


def test_an_answer_given_twice_is_a_breach(backend: Backend):
    program = """
        import os, unmask.sandbox.guest.main as host
        once = host.write_all
        host.write_all = lambda channel, data: once(channel, data * 2)
        def f(x): return x * x
        def g(xs): return xs
    """
    assert outcome(backend, program) == "crash"


def test_an_answer_to_an_earlier_call_is_a_breach(backend: Backend):
    program = """
        import unmask.sandbox.guest.main as host
        once, first = host.write_all, []
        def write_all(channel, data):
            first.append(data)
            once(channel, first[0])
        host.write_all = write_all
        def f(x): return 4 if x == 2 else 9
        def g(xs): return xs
    """
    assert outcome(backend, program) == "crash"


def test_closing_every_descriptor_is_no_answer(backend: Backend):
    program = "import os\nos.closerange(0, 1024)\nimport time\ntime.sleep(60)"
    assert outcome(backend, program) in ("crash", "timeout")


def test_tracing_and_the_memory_of_others_are_closed(namespaces: Backend):
    program = """
        import ctypes, os
        def f(x):
            libc, opened = ctypes.CDLL(None), []
            for pid in {1, os.getppid()} - {os.getpid()}:
                if libc.ptrace(16, pid, 0, 0) == 0: opened.append(pid)
                try: open(f"/proc/{pid}/mem", "r+b"); opened.append(pid)
                except OSError: pass
            return opened
    """
    if os.geteuid() != 0:
        pytest.skip("without root, number 1 of the namespace is the same user; it holds nothing")
    assert returned(namespaces, program) == []


def test_the_environment_holds_nothing_of_ours(backend: Backend, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("UNMASK_TEST_API_KEY", SECRET)
    names = returned(backend, "import os\ndef f(x): return sorted(os.environ)")
    assert "UNMASK_TEST_API_KEY" not in names  # type: ignore[operator]
    assert set(names) <= {  # type: ignore[call-overload]
        *("HOME", "LANG", "LC_CTYPE", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PATH", "PWD"),
        *("PYTHONHASHSEED", "TMPDIR"),
    }


def test_there_is_no_network(namespaces: Backend):
    program = """
        import socket
        def f(x):
            reached = []
            for address in (("127.0.0.1", PORT), ("10.0.0.1", 80), ("8.8.8.8", 53)):
                try: socket.create_connection(address, 2).close()
                except OSError: continue
                reached.append(address)
            return reached
    """
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert returned(namespaces, program.replace("PORT", str(port))) == []


def test_a_daemon_is_ended_with_its_program(backend: Backend):
    program = """
        import os, time
        def f(x):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    os.closerange(0, 1024)
                    time.sleep(1000)
                os._exit(0)
            return x * x
        def g(xs): return xs
    """
    assert outcome(backend, program) == "passed"  # and `nothing_is_left` finds no daemon


def test_a_daemon_cannot_hold_the_output_open(backend: Backend):
    program = """
        import os, time
        print(4)
        if os.fork() == 0:
            os.setsid()
            time.sleep(1000)
    """
    assert outcome(backend, program, StdioTest("", "4\n")) == "passed"


def test_threads_that_answer_later_calls_can_only_break_them(backend: Backend):
    program = """
        import os, threading, time
        def spam():
            while True:
                for fd in range(3, 16):
                    try: os.write(fd, b'["x", "value", 9]\\n')
                    except OSError: pass
                time.sleep(0.001)
        threading.Thread(target=spam, daemon=True).start()
        time.sleep(0.1)
        def f(x): return x * x
        def g(xs): return xs
    """
    assert outcome(backend, program) == "crash"


def test_a_huge_result_is_cut_off(backend: Backend):
    assert outcome(backend, "def f(x): return 'x' * 2**26") in ("crash", "wrong")


def test_a_deeply_nested_result_is_no_result(backend: Backend):
    program = """
        def f(x):
            for _ in range(500): x = [x]
            return x
    """
    assert outcome(backend, program) == "wrong"


def test_a_deeply_nested_answer_breaks_no_parser(backend: Backend):
    program = """
        import json, unmask.sandbox.guest.main as host
        once = host.write_all
        host.write_all = lambda channel, data: once(channel, b"[" * 100_000 + b"\\n")
        def f(x): return 4
    """
    assert outcome(backend, program) == "crash"


def test_a_repr_that_never_ends_is_never_asked_for(backend: Backend):
    program = """
        class Bomb:
            def __repr__(self):
                while True: pass
            __str__ = __hash__ = __repr__
        class Error(Exception):
            def __str__(self): raise SystemExit
        def f(x): return Bomb()
        def g(x): raise Error
    """
    assert outcome(backend, program) == "wrong"
    assert outcome(backend, program, SourceTest("g(1)", ("g",))) == "wrong"


def test_a_number_with_a_million_digits_does_not_block_the_test(backend: Backend):
    program = "def f(x): return 7 ** 10**5\ndef g(x): return 7 ** 10**5"
    assert outcome(backend, program) == "wrong"
    assert outcome(backend, program, SourceTest("assert f(0) == 7 ** 10**5", ("f",))) == "passed"


def test_links_out_of_the_temporary_directory_harm_no_file(backend: Backend, tmp_path: Path):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("whole")
    program = f"""
        import os
        os.symlink("{victim}", "link")
        os.symlink("/", "root")
        os.makedirs("a/" * 200)
        os.chmod("a", 0)
        def f(x): return x * x
        def g(xs): return xs
    """
    assert outcome(backend, program) == "passed"
    assert (victim / "file").read_text() == "whole"


def test_a_higher_limit_is_refused(backend: Backend):
    program = """
        import resource
        def f(x):
            raised = []
            for name in ("CPU", "AS", "FSIZE", "NPROC"):
                kind = getattr(resource, f"RLIMIT_{name}")
                hard = resource.getrlimit(kind)[1]
                try: resource.setrlimit(kind, (hard, hard * 2))
                except ValueError: continue
                raised.append(name)
            return raised
    """
    assert returned(backend, program) == []


def test_it_is_no_root_and_cannot_become_it(backend: Backend):
    skip_unless_it_is_another_user(backend)
    program = """
        import os
        def f(x):
            for change in (os.setuid, os.setgid, os.seteuid):
                try: change(0)
                except OSError: pass
            groups = os.getgroups()
            return [*os.getresuid(), *os.getresgid(), *groups]
    """
    assert 0 not in returned(backend, program)  # type: ignore[operator]


# Each holds as much as it can where no limit on address space counts, up to 1 GiB, and returns its MiB.
HOARDS = {
    "memory files": """
        def f(x):
            total, files = 0, []
            for _ in range(16):
                try:
                    files.append(os.memfd_create("m"))
                    for _ in range(8): total += os.write(files[-1], bytes(2**23))
                except OSError: pass
            return total >> 20
    """,
    "secret memory files": """
        def f(x):
            files = [libc.syscall(447, 0) for _ in range(10)]
            return max(files) * 100 + 100
    """,
    "System V shared memory": """
        def f(x):
            libc.shmat.restype, total = ctypes.c_void_p, 0
            for _ in range(16):
                key = libc.shmget(0, 64 << 20, 0o600)
                place = libc.shmat(key, None, 0) if key >= 0 else None
                if place in (None, 2**64 - 1): break
                ctypes.memset(place, 1, 64 << 20)
                libc.shmdt(ctypes.c_void_p(place))
                libc.shmctl(key, 0, None)
                total += 64
            return total
    """,
    "System V messages": """
        def f(x):
            queues = [libc.msgget(0, 0o600) for _ in range(1000)]
            return len([queue for queue in queues if queue >= 0])
    """,
    "POSIX shared memory": """
        def f(x):
            total, files = 0, []
            for n in range(200):
                name = f"/unmask-{os.getpid()}-{n}".encode()
                file = libc.shm_open(name, os.O_CREAT | os.O_RDWR, 0o600)
                if file < 0: break
                libc.shm_unlink(name)
                files.append(file)
                try:
                    for _ in range(8): total += os.write(file, bytes(2**20))
                except OSError: pass
            return total >> 20
    """,
    "a tmpfs of its own": """
        def f(x):
            libc.unshare(0x10000000 | 0x20000)
            return 1000 if libc.mount(b"t", b"/tmp", b"tmpfs", 0, None) == 0 else 0
    """,
    "a tmpfs of its own, by clone": """
        def f(x):
            pid = libc.syscall(56, 0x10020000 | 17, 0, 0, 0, 0)
            if pid == 0: os._exit(0)
            return 1000 if pid > 0 else 0
    """,
    "buffers of sockets": """
        import socket
        def f(x):
            total, ends = 0, []
            for _ in range(200):
                try:
                    ends += socket.socketpair()
                except OSError:
                    break
                for end in ends[-2:]:
                    for kind in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                        try: end.setsockopt(socket.SOL_SOCKET, kind, 2**30)
                        except OSError: pass
                    end.setblocking(False)
                    try:
                        while True: total += end.send(bytes(2**14))
                    except OSError: pass
            return total >> 20
    """,
    "buffers of pipes": """
        import fcntl
        def f(x):
            total, ends = 0, []
            for _ in range(200):
                try:
                    ends.append(os.pipe())
                except OSError:
                    break
                for size in (2**20, 2**30):
                    try: fcntl.fcntl(ends[-1][1], 1031, size)
                    except OSError: pass
                os.set_blocking(ends[-1][1], False)
                try:
                    while True: total += os.write(ends[-1][1], bytes(2**12))
                except OSError: pass
            return total >> 20
    """,
    "pages lent to pipes": """
        def f(x):
            read, write = os.pipe()
            buffer = ctypes.create_string_buffer(b"x" * 4096)
            class Vector(ctypes.Structure):
                _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]
            vector = Vector(ctypes.addressof(buffer), 4096)
            return 1000 if libc.vmsplice(write, ctypes.byref(vector), 1, 0) > 0 else 0
    """,
    "sockets that wait to be accepted": """
        import socket
        def f(x):
            server = socket.socket(socket.AF_UNIX)
            server.bind("s")
            try: server.listen(4096)
            except OSError: return 0
            return 1000
    """,
    "files in memory": """
        def f(x):
            total = 0
            for n in range(300):
                try:
                    with open(f"file{n}", "wb", buffering=0) as file: total += file.write(bytes(2**22))
                except OSError: break
            return total >> 20
    """,
}


@pytest.mark.parametrize("hoard", HOARDS)
def test_memory_is_bounded_in_all_its_forms(every: Backend, hoard: str):
    if every == "limits":
        if hoard == "files in memory":
            pytest.skip(
                "isolation process: its folder is on the disk of the machine, which may fill"
            )
        if hoard == "POSIX shared memory" and not landlock.abi():
            pytest.skip(
                "isolation process: without Landlock, shared memory of POSIX is open to all users"
            )
    source = "import ctypes, os\nlibc = ctypes.CDLL(None)\n" + textwrap.dedent(HOARDS[hoard])
    with ready(every, LIMITS) as sandbox:
        sandbox.load(source)
        try:
            held = sandbox.call("f", 0)
        except (OSError, ProgramFailedError):
            held = 0
    # What 128 descriptors hold at the kernel's default sizes, and the temporary files.
    assert held <= 40


def test_empty_files_are_bounded(every: Backend):
    program = """
        import os
        def f(x):
            os.chdir("/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp")
            for n in range(10**6):
                try: os.mkdir(f"unmask-{os.getpid()}-{n}")
                except OSError: break
            return n
    """
    limits = Limits(cpu_s=60, wall_s=LIMITS.wall_s * 10)
    with ready(every, limits) as sandbox:
        sandbox.load(textwrap.dedent(program))
        try:
            assert sandbox.call("f", 0) <= 50_000
        except ProgramFailedError:
            assert sandbox.failure == "crash"


# Number on x86_64, and arguments that the kernel would look at.
CALLS = {
    "keyctl": (250, 0, -3, 0),
    "add_key": (248, b"user", b"a", b"b", 1, -3),
    "request_key": (249, b"user", b"a", 0, -3),
    "ptrace": (101, 0, 0, 0, 0),
    "process_vm_readv": (310, 1, 0, 0, 0, 0, 0),
    "pidfd_getfd": (438, 0, 0, 0),
    "bpf": (321, 0, 0, 0),
    "perf_event_open": (298, 0, 0, -1, -1, 0),
    "io_uring_setup": (425, 1, 0),
    "userfaultfd": (323, 0),
    "unshare": (272, 0x10000000),
    "setns": (308, 0, 0),
    "mount": (165, 0, 0, 0, 0, 0),
    "fsopen": (430, b"tmpfs", 0),
    "open_tree": (428, -100, b"/", 1),
    "pivot_root": (155, b"/", b"/"),
    "chroot": (161, b"/"),
    "open_by_handle_at": (304, 0, 0, 0),
    "kexec_load": (246, 0, 0, 0, 0),
    "init_module": (175, 0, 0, 0),
    "fanotify_init": (300, 0, 0),
    "syslog": (103, 3, 0, 0),
}


def test_calls_that_no_program_needs_are_refused(every: Backend):
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers are those of x86_64")
    program = f"""
        import ctypes, errno, socket
        libc = ctypes.CDLL(None, use_errno=True)
        def f(x):
            found = {{}}
            for name, (number, *args) in {CALLS}.items():
                done = libc.syscall(number, *args)
                found[name] = 0 if done >= 0 else ctypes.get_errno()
            done = libc.syscall(435, 0, 0)
            found["clone3"] = 0 if done >= 0 else ctypes.get_errno()
            for family in (2, 10, 16, 17, 38, 40):
                try: socket.socket(family, socket.SOCK_STREAM if family < 16 else socket.SOCK_RAW).close()
                except OSError as error: found[family] = error.errno
                else: found[family] = 0
            return found
    """
    found: dict[object, int] = returned(every, program)  # type: ignore[assignment]
    assert found.pop("clone3") == errno.ENOSYS
    assert {name for name, code in found.items() if code != errno.EPERM and name in CALLS} == set()
    assert {found[family] for family in found if family not in CALLS} == {errno.EAFNOSUPPORT}


BURN = """
    import os, signal, time
    def burn(seconds):
        start = time.process_time()
        while time.process_time() - start < seconds: pass
    def child(seconds):
        pid = os.fork()
        if pid == 0:
            burn(seconds)
            os._exit(0)
        return pid
    def g(xs): return xs
"""
LONG = {
    "children in turn": """
    def f(x):
        for _ in range(4):
            child(0.9)
            os.wait()
        return x * x
    """,
    "many short children": """
    def f(x):
        for _ in range(150):
            child(0.02)
            os.wait()
        return x * x
    """,
    "children at once": """
    def f(x):
        for _ in range(4): child(0.9)
        for _ in range(4): os.wait()
        return x * x
    """,
    "children that nothing waits for": """
    try: signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    except OSError: pass
    def f(x):
        for _ in range(150):
            child(0.02)
            try: os.wait()
            except ChildProcessError: pass
        return x * x
    """,
    "daemons": """
    def f(x):
        for _ in range(4):
            if os.fork() == 0:
                os.setsid()
                child(0.9)
                os._exit(0)
            os.wait()
        time.sleep(4)
        return x * x
    """,
    "a new program": """
    import subprocess, sys
    def f(x):
        for _ in range(3):
            subprocess.run([sys.executable, "-S", "-c", "import time\\nwhile time.process_time() < 0.9: pass"])
        return x * x
    """,
}


# Namespaces are made in two ways, and count alike.
@pytest.mark.parametrize(
    ("way", "every"),
    [(w, b) for n, w in enumerate(LONG) for b in ("limits", NAMESPACES[n % len(NAMESPACES)])],
    indirect=["every"],
)
def test_processor_time_is_counted_for_all_processes(every: Backend, way: str):
    assert outcome(every, textwrap.dedent(BURN) + textwrap.dedent(LONG[way])) == "timeout"


def test_a_program_and_its_children_within_the_limit_are_no_timeout(every: Backend):
    program = textwrap.dedent(BURN) + textwrap.dedent(LONG["children in turn"])
    assert outcome(every, program.replace("0.9", "0.03")) == "passed"


def test_the_memory_killer_takes_programs_first(every: Backend):
    if every == "limits" and not landlock.abi():
        pytest.skip("isolation process: without Landlock, a program may write to its own /proc")
    program = """
        import subprocess, sys
        LOWER = "open('/proc/self/oom_score_adj', 'w').write('0')"
        def f(x):
            try: exec(LOWER)
            except OSError: pass
            look = LOWER.replace("open", "try: open", 1) + "\\nexcept OSError: pass\\n"
            look += "print(open('/proc/self/oom_score_adj').read())"
            done = subprocess.run([sys.executable, "-S", "-c", look], capture_output=True, text=True)
            return int(open("/proc/self/oom_score_adj").read()), int(done.stdout)
    """
    assert returned(every, program) == (1000, 1000)


def test_keys_of_the_session_are_out_of_reach(every: Backend):
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers are those of x86_64")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(248, b"user", b"unmask-secret", SECRET.encode(), len(SECRET), -3) < 0:
        pytest.skip(f"this machine keeps no keys: {os.strerror(ctypes.get_errno())}")
    program = """
        import ctypes
        libc = ctypes.CDLL(None)
        def f(x):
            found = [libc.syscall(250, 10, place, b"user", b"unmask-secret", 0) for place in (-3, -4, -5)]
            found.append(libc.syscall(249, b"user", b"unmask-secret", 0, -3))
            return max(found)
    """
    assert returned(every, program) == -1


# The part of a worker: it holds a secret and a pipe that a verdict is written to.
TRUSTED = """
import os, sys, textwrap
from pathlib import Path
from unmask.sandbox import command, process
from unmask.sandbox.guest.supervisor import forbid_inspection
read, write = os.pipe()
secret = "the_answer_is_" + str(int(sys.argv[1]) + 1)
forbid_inspection()
if sys.argv[2] == "without":
    command.BOOT = command.BOOT.replace("main(setup)", sys.argv[4])
with process.Sandbox("limits", process.Limits(cpu_s=20), Path(sys.argv[3]) if sys.argv[3] else None) as program:
    program.wait_until_ready()
    program.load(sys.stdin.read())
    print(program.call("f", os.getpid()))
os.set_blocking(read, False)
try:
    print("written", os.read(read, 100))
except BlockingIOError:
    print("nothing is written")
"""
INTRUDER = """
import os, re
def f(worker):
    found = []
    # The supervisor, the worker and all processes above it.
    pids, pid = [], os.getppid()
    while pid > 1:
        pids.append(pid)
        pid = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
    assert worker in pids
    for pid in pids[: pids.index(worker) + 1]:
        for path in ("fd", "map_files"):
            try: found += [f"{pid}/{path}/{name}" for name in os.listdir(f"/proc/{pid}/{path}")]
            except OSError: pass
        for path in ("mem", "environ", "maps", "auxv", "io", "stack", "cwd", "exe"):
            try:
                if os.readlink(f"/proc/{pid}/{path}"): found.append(path)
            except OSError: pass
            try:
                if open(f"/proc/{pid}/{path}", "rb").read(1): found.append(path)
            except OSError: pass
        for number in range(64):
            try:
                place = os.open(f"/proc/{pid}/fd/{number}", os.O_WRONLY)
                os.write(place, b"[1.0, null]")
                found.append(number)
            except OSError: pass
    return found
"""


@pytest.mark.parametrize("rules", ["with", "without"])
def test_the_worker_is_closed_to_a_program_of_the_same_user(rules: str):
    """As a normal user with isolation `process`, whether or not the kernel has Landlock."""
    as_user = {"user": 41_998, "group": 41_998, "extra_groups": []} if os.geteuid() == 0 else {}
    python = SYSTEM_PYTHON if os.geteuid() == 0 else Path(sys.executable)
    code, packages = Path(unmask.__file__).parents[1], Path(pydantic.__file__).parents[1]
    done = subprocess.run(
        [python, "-c", TRUSTED, "1728", rules, str(python) if as_user else "", WITHOUT_LANDLOCK],
        input=INTRUDER,
        env={"PYTHONPATH": f"{code}:{packages}", "TMPDIR": "/tmp"},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        **as_user,  # type: ignore[arg-type]
    )
    if "ModuleNotFoundError" in done.stderr or not python.exists():
        pytest.skip(f"no Python here that another user can run: {done.stderr[-200:]}")
    assert done.stdout == "[]\nnothing is written\n", done.stderr


def test_two_programs_never_have_one_user():
    if os.geteuid() != 0:
        pytest.skip("without root, programs run as the user who tests them")
    program = "import os\ndef f(x): return os.getuid()"
    with ready("limits", LIMITS) as first, ready("limits", LIMITS) as second:
        for sandbox in (first, second):
            sandbox.load(program)
        users = {sandbox.call("f", 0) for sandbox in (first, second)}
    assert len(users) == 2 and min(users) >= 40_000


def test_ending_a_program_ends_no_other_process_of_its_user(every: Backend):
    if os.geteuid() != 0:
        pytest.skip("without root, programs run as the user who tests them")
    with ready(every, LIMITS) as sandbox:
        sandbox.load("import os\ndef f(x): return os.getuid()")
        # It comes after the user was chosen, which no look at the processes can foresee.
        bystander = subprocess.Popen(["sleep", "60"], user=sandbox.call("f", 0))
    try:
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


LITTER = """
    import os, tempfile
    def f(x):
        made = []
        for place in ("/dev/shm", "/var/tmp", "/tmp", "/run/lock"):
            path = f"{place}/unmask-litter-{os.getpid()}"
            try:
                os.makedirs(path + "/deep/deeper")
                made.append(path)
                open(path + "-file", "w").write("left")
                made.append(path + "-file")
            except OSError: pass
        return made
"""


@pytest.mark.parametrize("rules", ["with", "without"])
def test_nothing_is_left_where_all_users_may_write(rules: str, monkeypatch: pytest.MonkeyPatch):
    if os.geteuid() != 0:
        pytest.skip("without root, what a program leaves cannot be told from its user's own files")
    if rules == "without":
        without_landlock(monkeypatch)
    made: list[str] = returned("limits", LITTER)  # type: ignore[assignment]
    assert made
    assert [path for path in made if os.path.lexists(path)] == []


def test_deep_folders_are_removed_within_a_limit():
    program = """
        import os
        def f(x):
            folder = os.getcwd()
            for n in range(2_000):
                os.mkdir("d")
                os.chdir("d")
            return folder, n
    """
    limits = Limits(cpu_s=60, wall_s=LIMITS.wall_s * 10)
    with ready("limits", limits) as sandbox:
        sandbox.load(textwrap.dedent(program))
        folder, last = sandbox.call("f", 0)
        assert last == 1_999
        start = time.monotonic()
        sandbox.close()
        # What it takes depends on the disk, which is why there is a limit; it is 3 seconds.
        assert time.monotonic() - start < 20
    remove(Path(folder), time.monotonic() + 300)


def test_other_processes_of_the_user_take_nothing_from_a_program():
    """As a normal user with isolation `process`, with more processes than a program may have."""
    as_user = {"user": 41_997, "group": 41_997, "extra_groups": []} if os.geteuid() == 0 else {}
    python = SYSTEM_PYTHON if as_user else Path(sys.executable)
    code, packages = Path(unmask.__file__).parents[1], Path(pydantic.__file__).parents[1]
    others = [
        subprocess.Popen(["sleep", "120"], **as_user)  # type: ignore[arg-type]
        for _ in range(LIMITS.processes + 4)
    ]
    try:
        done = subprocess.run(
            [python, "-c", COUNTED, str(python) if as_user else ""],
            input=FORKING,
            env={"PYTHONPATH": f"{code}:{packages}", "TMPDIR": "/tmp"},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            **as_user,  # type: ignore[arg-type]
        )
    finally:
        for other in others:
            other.kill()
            other.wait()
    if "ModuleNotFoundError" in done.stderr:
        pytest.skip(f"no Python here that another user can run: {done.stderr[-200:]}")
    assert 4 <= int(done.stdout) < 8, done.stderr


COUNTED = """
import sys
from pathlib import Path
from unmask.sandbox.process import Limits, Sandbox
python = Path(sys.argv[1]) if sys.argv[1] else None
with Sandbox("limits", Limits(cpu_s=20, processes=8), python) as sandbox:
    sandbox.wait_until_ready()
    sandbox.load(sys.stdin.read())
    print(sandbox.call("f", 0))
"""
FORKING = """
import os, time
def f(x):
    for count in range(100):
        try: pid = os.fork()
        except OSError: return count
        if pid == 0:
            time.sleep(20)
            os._exit(0)
    return count
"""
