"""The public surface that the cases are written against: the command line, and data sets as files.

Nothing here names a module below `unmask`, so moving one breaks no case.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.forked_python import run_python
from unmask import grade

SYSTEM_PYTHON = Path("/usr/bin/python3")


def unmask(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `unmask` in a process of its own and return what it printed."""
    return run_python(["-m", "unmask", *words], timeout=300, **options)


def tiny_model(folder: Path, family: str = "sdar") -> Path:
    """Write a tiny random checkpoint of a family."""
    made = unmask("init", folder, "--family", family, "--size", "tiny", "--seed", "1")
    assert made.returncode == 0, made.stderr
    return folder


def edit_json(file: Path, **values: Any) -> None:
    """Change keys of a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def refused(result: subprocess.CompletedProcess[str]) -> str:
    """Return the error of a command that must end with one line per mistake and exit code 2."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


def rewards(task: dict[str, Any], responses: list[str]) -> list[float]:
    """Grade one response per problem."""
    return [record["reward"] for record in grade(task, responses)]


def function_reward(
    folder: Path, program: str, check: str, function: str = "f", **sandbox: Any
) -> float:
    """Grade a program by one statement that calls its function, in a sandbox with these settings."""
    path = write_problem(folder, check, function)
    task = {"kind": "dataset", "name": "humaneval", "path": path, "sandbox": sandbox}
    (reward,) = rewards(task, [f"```python\n{program}\n```"])
    return reward


def write_problem(folder: Path, check: str, function: str = "f") -> Path:
    """Write a data set of one problem, whose test is one statement on `candidate`."""
    record = {
        "task_id": "HumanEval/0",
        "prompt": f"def {function}(x):\n    pass\n",
        "entry_point": function,
        "canonical_solution": "    return x\n",
        "test": f"def check(candidate):\n    {check}\n",
    }
    file = folder / "humaneval.jsonl"
    file.write_text(json.dumps(record))
    return file


def reward_as_user(folder: Path, program: str, check: str) -> float:
    """Grade as `function_reward` does at isolation `process`, without being root.

    Root gives every program a user of its own; without root, the grader and the program share one.
    """
    if os.geteuid() != 0:
        return function_reward(folder, program, check, isolation="process")
    folder.chmod(0o755)
    for parent in folder.parents[:2]:
        parent.chmod(0o755)
    problem = write_problem(folder, check)
    answers = folder / "answers.jsonl"
    answers.write_text(json.dumps({"response": f"```python\n{program}\n```"}))
    words = ["task.kind=dataset", "task.name=humaneval", f"task.path={problem}"]
    words += ["task.sandbox.isolation=process", f"task.sandbox.python={SYSTEM_PYTHON}"]
    found = subprocess.run(
        [SYSTEM_PYTHON, "-m", "unmask", "grade", answers, *words],
        env={"PYTHONPATH": os.pathsep.join(path for path in sys.path if "/.pyenv/" not in path)},
        cwd="/tmp",
        user="nobody",
        capture_output=True,
        text=True,
        check=False,
    )
    if "No module named" in found.stderr or "Permission denied" in found.stderr:
        pytest.skip(f"{SYSTEM_PYTHON} cannot run unmask here: {found.stderr[-200:]}")
    return json.loads(found.stdout)["reward"]
