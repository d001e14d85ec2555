"""One job of a process in a service: earlier calls are repeated, and only the last answer is printed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import unmask

BOOT = (
    "import json, sys; from unmask.sandbox.guest.replay import main; main(json.loads(sys.argv[1]))"
)


def do(folder: Path, program: str, questions: list[str] | None, cpu_s: int = 5) -> Any:
    job = {"program": program, "cpu_s": cpu_s, "questions": questions, "keeps_objects": False}
    return subprocess.run(
        [sys.executable, "-c", BOOT, json.dumps(job)],
        input="2 3",
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PYTHONPATH": str(Path(unmask.__file__).parents[1])},
    )


def question(target: str | None, *args: int) -> str:
    packed = {"args": ["list", *args], "kwargs": ["dict"]}
    return json.dumps({"number": str(target), "target": target} | packed)


def test_only_the_last_answer_is_printed(tmp_path: Path):
    program = (
        "n = 0\nprint('noise')\ndef f(x):\n    global n\n    n += x\n    print(n)\n    return n"
    )
    asked = [question(None), question("f", 1), question("f", 20)]
    assert do(tmp_path, program, asked).stdout == '["f", "value", 21]\n'
    assert do(tmp_path, program, asked[:1]).stdout == '["None", "value", null]\n'


def test_threads_and_exit_handlers_of_the_program_add_nothing(tmp_path: Path):
    program = (
        "import atexit, os, threading, time\n"
        "atexit.register(lambda: os.write(3, b'late'))\n"
        "def f():\n    threading.Thread(target=time.sleep, args=(600,)).start()\n    return 1"
    )
    done = do(tmp_path, program, [question(None), question("f")])
    assert (done.returncode, done.stdout) == (0, '["f", "value", 1]\n')


def test_a_program_is_run_to_its_end(tmp_path: Path):
    done = do(tmp_path, "print(__name__, sum(map(int, input().split())))", None)
    assert (done.returncode, done.stdout) == (0, "__main__ 5\n")
    assert do(tmp_path, "raise SystemExit(4)", None).returncode == 4


@pytest.mark.parametrize("questions", [None, [question(None)]])
def test_the_kernel_ends_programs_over_the_limit_of_processor_time(
    tmp_path: Path, questions: list[str] | None
):
    done = do(tmp_path, "while True: pass", questions, cpu_s=1)
    assert (done.returncode, done.stdout) == (-24, "")
