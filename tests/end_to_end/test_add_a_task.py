"""docs/add-a-task.md, followed literally: its example works as a file of the folder, and outside the package."""

import json
import re
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.forked_python import run_python

PAGE = Path(__file__).parents[2] / "docs" / "add-a-task.md"
# In a process of its own: the folder of data sets is longer there.
INSIDE = """
import unmask.tasks.datasets as folder
folder.__path__.append("datasets")

from unmask.configs.task import DatasetTaskConfig, dataset_names
from unmask.tasks.build import build_task

assert "example" in dataset_names()
task = build_task(DatasetTaskConfig(name="example", path="name-test.jsonl"))
prompts = task.prompts("test")
scores = task.grade([(prompts[0], "\\\\boxed{4}"), (prompts[1], "\\\\boxed{4}")])
task.close()
assert [score.reward for score in scores] == [1.0, 0.0]
assert prompts[0].task == task.name == "example"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = ({"question": f"What is 2 + {n}?", "gold": 2 + n} for n in (2, 3))
    (tmp_path / "name-test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (program,) = (block for block in blocks if "DATASET = Dataset(" in block)
    (tmp_path / "datasets").mkdir()
    for name in ("datasets/example.py", "my_task.py"):
        (tmp_path / name).write_text(program)
    return tmp_path


def run(*words: str, folder: Path) -> CompletedProcess[str]:
    """Run this Python in a folder."""
    return run_python(words, cwd=folder)


def test_a_file_in_the_folder_is_a_task(folder: Path) -> None:
    done = run("-c", INSIDE, folder=folder)
    assert done.returncode == 0, done.stderr


def test_an_object_outside_the_package_is_a_task(folder: Path) -> None:
    words = ("task.kind=dataset", "task.name=my_task:DATASET", "task.path=name-test.jsonl")
    (folder / "answers.jsonl").write_text(
        "\n".join(json.dumps({"response": rf"\boxed{{{n}}}"}) for n in (4, 4))
    )
    done = run("-m", "unmask", "grade", "answers.jsonl", *words, folder=folder)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["reward"] for line in done.stdout.splitlines()] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_task:DATASET", ""),
        ("my_task:problem", "must be a Dataset, found function"),
        ("my_task:NOTHING", "module 'my_task' has no OBJECT 'NOTHING'"),
        ("no_module:DATASET", "there is no module 'no_module'"),
        ("my_task:", "write it as module:OBJECT"),
    ],
)
def test_unmask_config_checks_the_object(name: str, message: str, folder: Path) -> None:
    words = ("config", "eval", "model.path=x", "run.dir=r", "task.kind=dataset")
    done = run("-m", "unmask", *words, f"task.name={name}", folder=folder)
    assert done.returncode == (2 if message else 0), done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
