"""Programs that passed without being right, accessed what is outside, or exceeded their limits."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.cases.command import SYSTEM_PYTHON, function_reward, reward_as_user, rewards
from unmask import grade

WRITES_A_VERDICT = """
import os, time
def f(x):
    pid = os.getppid()
    for _ in range(6):
        try:
            stat = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
            for name in os.listdir(f"/proc/{pid}/fd"):
                if "pipe" in os.readlink(f"/proc/{pid}/fd/{name}"):
                    fd = os.open(f"/proc/{pid}/fd/{name}", os.O_WRONLY)
                    os.write(fd, b"[1.0, null]\\n")
                    os.close(fd)
        except OSError:
            break
        pid = int(stat[1])
    time.sleep(1)
    return "wrong"
"""
READS_THE_TEST = """
import os, re
def f(x):
    pid = os.getppid()
    for _ in range(6):
        try:
            stat = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
            maps = open(f"/proc/{pid}/maps").readlines()
        except OSError:
            return None
        for line in maps:
            start, end = [int(v, 16) for v in line.split()[0].split("-")]
            if "rw" not in line.split()[1] or end - start > 1 << 28:
                continue
            try:
                memory = open(f"/proc/{pid}/mem", "rb", 0)
                memory.seek(start)
                found = re.search(rb"candidate\\(2\\) == (\\d+)", memory.read(end - start))
            except OSError:
                continue
            if found:
                return int(found.group(1))
        pid = int(stat[1])
"""
RESULT_IN_A_HUNDRED_LISTS = """
def f(x):
    value = 0
    for _ in range(100):
        value = [value]
    return value
"""
MEMFD = """
import os
def f(x):
    total, kept = 0, []
    try:
        while total < 2 * 2**30:
            kept.append(os.memfd_create("m"))
            for _ in range(60):
                total += os.write(kept[-1], bytes(2**20))
    except OSError:
        pass
    return total >> 20
"""
SYSV = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def f(x):
    libc.shmat.restype = ctypes.c_void_p
    total, ids = 0, []
    for _ in range(32):
        key = libc.shmget(0, 64 << 20, 0o600)
        if key < 0:
            break
        place = libc.shmat(key, None, 0)
        if place in (None, 2**64 - 1):
            break
        ctypes.memset(place, 1, 64 << 20)
        libc.shmdt(ctypes.c_void_p(place))
        total += 64
        ids.append(key)
    for key in ids:
        libc.shmctl(key, 0, None)
    return total
"""
READS_KEYRING = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def f(x):
    buffer = ctypes.create_string_buffer(4096)
    key = libc.syscall(250, 10, -3, b"user", b"my-secret", 0)
    size = libc.syscall(250, 11, key, buffer, 4096) if key >= 0 else 0
    return buffer.raw[:size].decode() if size > 0 else None
"""
COMPUTES_IN_CHILDREN = """
import os, time
def f(x):
    for _ in range(4):
        if os.fork() == 0:
            start = time.process_time()
            while time.process_time() - start < 0.9:
                pass
            os._exit(0)
        os.wait()
    return x * x
"""
SAVES_ITSELF = """
def f(x):
    try:
        open("/proc/self/oom_score_adj", "w").write("0")
    except OSError:
        pass
    return int(open("/proc/self/oom_score_adj").read())
"""
ISOLATIONS = ("best", "process")


def isolated(isolation: str) -> dict[str, Any]:
    # Without namespaces a program of another user must reach its interpreter: not one below /root.
    has_system_python = isolation == "process" and SYSTEM_PYTHON.exists()
    return {"isolation": isolation} | ({"python": SYSTEM_PYTHON} if has_system_python else {})


@pytest.mark.parametrize("program", [WRITES_A_VERDICT, READS_THE_TEST])
def test_a_program_cannot_reach_its_verdict_or_its_test(program: str, tmp_path: Path) -> None:
    check = "assert candidate(2) == 48151623"
    assert reward_as_user(tmp_path, program, check) == 0.0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs programs as other users")
def test_other_processes_survive_the_end_of_a_sandbox(tmp_path: Path) -> None:
    with ExitStack() as stack:
        others = [
            stack.enter_context(subprocess.Popen(["sleep", "60"], user=uid))
            for uid in range(40_000, 60_000, 500)
        ]
        reward = function_reward(
            tmp_path, "def f(x): return x", "assert candidate(1) == 1", **isolated("process")
        )
        survivors = sum(other.poll() is None for other in others)
        for other in others:
            other.kill()
    assert (reward, survivors) == (1.0, len(others))


def test_a_result_nested_to_the_limit_fails_its_program_alone(tmp_path: Path) -> None:
    check = "assert candidate(candidate('ab')) == 'ab'"
    assert function_reward(tmp_path, RESULT_IN_A_HUNDRED_LISTS, check) == 0.0


@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize("program", [MEMFD, SYSV])
def test_memory_that_no_process_limit_counts(program: str, isolation: str, tmp_path: Path) -> None:
    settings = {"memory_mb": 256, "cpu_s": 30, **isolated(isolation)}
    assert function_reward(tmp_path, program, "assert candidate(1) > 600", **settings) == 0.0


@pytest.mark.skipif(sys.platform != "linux", reason="keyrings are Linux's")
def test_the_session_keyring_is_not_readable(tmp_path: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(250, 1, None)
    libc.syscall(248, b"user", b"my-secret", b"TOKEN-1729", 10, -3)
    check = "assert candidate(1) == 'TOKEN-1729'"
    assert function_reward(tmp_path, READS_KEYRING, check) == 0.0


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_processor_time_of_children_counts(isolation: str, tmp_path: Path) -> None:
    settings = {"cpu_s": 1, "wall_s": 60, **isolated(isolation)}
    assert (
        function_reward(tmp_path, COMPUTES_IN_CHILDREN, "assert candidate(2) == 4", **settings) == 0
    )


def test_a_program_stays_first_to_be_killed_for_memory(tmp_path: Path) -> None:
    assert function_reward(tmp_path, SAVES_ITSELF, "assert candidate(1) < 1000") == 0.0


@pytest.fixture
def busy_machine() -> Iterator[None]:
    with ExitStack() as stack:
        loop = [sys.executable, "-c", "while 1: pass"]
        others = [stack.enter_context(subprocess.Popen(loop)) for _ in range(12)]
        yield
        for other in others:
            other.kill()


def test_a_verdict_under_load(busy_machine: None, tmp_path: Path) -> None:
    counts = (200, 300, 350, 400, 450)
    file = tmp_path / "sums.jsonl"
    file.write_text(
        "\n".join(f'{{"question": "{n}?", "ground_truth_answer": "{n}"}}' for n in counts)
    )
    task = {"kind": "json", "test": file, "template": "{question}"}
    responses = [r"\boxed{1" + "+1" * (n - 1) + "}" for n in counts]
    settings = {"time_limit_s": 1.0, "workers": 2}
    loaded = grade({**task, "verifier": settings}, responses)
    assert [record["outcome"] for record in loaded] == ["correct"] * len(counts)
    assert rewards(task, responses) == [1.0] * len(counts)
