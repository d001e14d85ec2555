"""HumanEval: three records made by hand; and on the real file, canonical solutions pass and broken ones fail."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.real_data import real_file
from tests.tasks.hand_made import rewards
from unmask.configs.task import DatasetTaskConfig
from unmask.tasks.build import build_task

RECORDS = [
    {
        "task_id": "HumanEval/900",
        "prompt": 'from typing import List\n\n\ndef total(xs: List[int]) -> int:\n    """Sum."""\n',
        "entry_point": "total",
        "canonical_solution": "    return sum(xs)\n",
        "test": "METADATA = {}\n\n\ndef check(candidate):\n"
        "    assert candidate([1, 2]) == 3\n    assert total([]) == 0\n",
    },
    {
        "task_id": "HumanEval/901",
        "prompt": 'def poly(c, x):\n    return c[0] + c[1] * x\n\n\ndef root(c):\n    """Where poly is 0."""\n',
        "entry_point": "root",
        "canonical_solution": "    return -c[0] / c[1]\n",
        "test": "def check(candidate):\n"
        "    for c in [[1, 2], [3, 4]]:\n        assert abs(poly(c, candidate(c))) < 1e-6\n",
    },
    {
        "task_id": "HumanEval/902",
        "prompt": 'def digits(n):\n    """Digits of n >= 0, or ValueError."""\n',
        "entry_point": "digits",
        "canonical_solution": "    if n < 0: raise ValueError(n)\n    return tuple(map(int, str(n)))\n",
        "test": "def check(candidate):\n    assert candidate(120) == (1, 2, 0)\n    try:\n        candidate(-1)\n"
        "    except ValueError:\n        pass\n    else:\n        assert False\n",
    },
]


def test_right_programs_earn_one_and_wrong_ones_nothing(tmp_path: Path) -> None:
    # The prompt's function continued, and a whole program.
    continued = [record["canonical_solution"] for record in RECORDS]
    whole = [f"```python\n{r['prompt']}{r['canonical_solution']}```" for r in RECORDS]
    wrong = [
        "    return 3\n",
        "def poly(c, x): return 0\ndef root(c): return 1",
        "    return tuple(str(n))\n",
    ]
    assert rewards("humaneval", tmp_path, RECORDS, continued) == [1.0, 1.0, 1.0]
    assert rewards("humaneval", tmp_path, RECORDS, whole) == [1.0, 1.0, 1.0]
    assert rewards("humaneval", tmp_path, RECORDS, wrong) == [0.0, 0.0, 0.0]


def test_a_prompt_that_is_no_python_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"line 1.*'prompt' must be Python"):
        rewards("humaneval", tmp_path, [RECORDS[0] | {"prompt": "def f(:"}], [""])


@pytest.fixture
def busy() -> Iterator[None]:
    """Keep both cores busy, as a machine that trains would."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    yield
    for process in processes:
        process.kill()
        process.wait()


def test_real_solutions_pass_and_broken_ones_fail_under_load(busy: None) -> None:
    """Every eleventh problem and those with helpers; `benchmarks/code_grader.py` runs all 164."""
    path = real_file("HumanEval.jsonl.gz")
    with closing(build_task(DatasetTaskConfig(name="humaneval", path=path))) as task:
        prompts = [
            p for i, p in enumerate(task.prompts("test")) if i % 11 == 0 or i in (32, 38, 50)
        ]
        for ending in (None, "    return None", "    raise SystemExit"):
            responses = [
                str(task.demonstration(p))
                if ending is None
                else f"```python\n{p.reference['stub']}{ending}\n```"
                for p in prompts
            ]
            scores = task.grade(list(zip(prompts, responses, strict=True)))
            assert {score.reward for score in scores} == {float(ending is None)}
