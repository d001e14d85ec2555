"""Tasks of `verifiers` become rows and are graded by the package itself; needs the package, else it skips."""

import asyncio
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from tests.forked_python import run_python
from unmask.configs.task import JsonTaskConfig
from unmask.rewards.verifiers_tasks import SCORE, records, score
from unmask.tasks.json_task import build_json_task

MODULE = """
import verifiers.v1 as vf


class Sum(vf.TaskData):
    answer: str


class SumTask(vf.Task[Sum, vf.State, vf.TaskConfig]):
    @vf.reward(weight=2.0)
    async def right(self, task, trace) -> float:
        return float(trace.last_reply == task.answer)

    @vf.reward(weight=0.5)
    async def short(self, trace) -> float:
        return float(len(trace.last_reply) < 4)

    @vf.metric
    async def turns(self, trace) -> float:
        return float(trace.num_turns)


class SumConfig(vf.TasksetConfig):
    most: int = 3


class Sums(vf.Taskset[SumTask, SumConfig]):
    INFINITE = False

    def load(self):
        for one in range(self.config.most):
            data = Sum(prompt=f"{one}+1=", system_prompt="Add.", answer=str(one + 1))
            yield SumTask(data, self.config.task)


__all__ = ["Sums"]
"""
BOXED = MODULE.replace("    @vf.metric", "    NEEDS_CONTAINER = True\n\n    @vf.metric")
RUNTIME = MODULE.replace("turns(self, trace)", "turns(self, trace, runtime)")
SETUP = MODULE.replace(
    "    @vf.metric", "    async def setup(self, trace, runtime):\n        pass\n\n    @vf.metric"
)
ENDLESS = MODULE.replace("INFINITE = False", "INFINITE = True")
HAS_VERIFIERS = (
    importlib.util.find_spec("verifiers") is not None
    and importlib.util.find_spec("verifiers.v1") is not None
)
needs_verifiers = pytest.mark.skipif(not HAS_VERIFIERS, reason="verifiers is not installed")


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"sums": MODULE, "boxed": BOXED, "runtime": RUNTIME, "steps": SETUP, "endless": ENDLESS}
    for name, text in found.items():
        (tmp_path / f"vf_{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.skipif(HAS_VERIFIERS, reason="verifiers is installed")
def test_a_missing_package_is_named() -> None:
    with pytest.raises(ValueError, match=r"needs the package verifiers, version 0\.4 or later"):
        list(records("vf-sums", {}, None))


@needs_verifiers
def test_rows_have_the_prompt_and_the_whole_task() -> None:
    rows = list(records("vf-sums", {"most": 2}, None))
    assert len(rows) == 2
    assert rows[1]["prompt"] == [
        {"role": "system", "content": "Add."},
        {"role": "user", "content": "1+1="},
    ]
    truth = {"idx": 1, "prompt": "1+1=", "system_prompt": "Add.", "answer": "2"}
    assert rows[1]["reward_model"] == {"style": "rule", "ground_truth": truth}
    assert rows[1]["extra_info"] == {"arguments": {"most": 2}}
    assert len(list(records("vf-endless", {}, 2))) == 2


@needs_verifiers
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("vf-boxed", "it needs a container"),
        ("vf-runtime", "turns need a runtime"),
        ("vf-steps", r"it has setup\(\)"),
        ("vf-endless", "give a number"),
        ("vf-absent", "taskset 'vf-absent' not found"),
    ],
)
def test_tasks_of_more_than_one_turn_are_refused(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        list(records(name, {}, None))


@needs_verifiers
def test_a_response_earns_what_the_package_gives() -> None:
    """The weighted sum of the rewards, 2 x right + 0.5 x short, as `Task.score` of the package has it."""
    row = list(records("vf-sums", {}, None))[2]
    truth = row["reward_model"]["ground_truth"]

    def earned(response: str) -> dict[str, float]:
        return asyncio.run(score("vf-sums", response, truth, row["extra_info"]))

    assert earned("3") == {"score": 2.5, "right": 1.0, "short": 1.0, "turns": 1.0}
    assert earned("4")["score"] == 0.5
    assert earned("three or so")["score"] == 0.0


@needs_verifiers
def test_the_written_file_is_a_task_with_its_grader(tmp_path: Path) -> None:
    words = ["-m", "unmask", "data", "verifiers:vf-sums", "most=4", "--out", "train.jsonl"]
    done = run_python(words)
    assert done.returncode == 0, done.stderr
    assert "vf-sums: 4 tasks" in done.stdout
    config: dict[str, Any] = {"train": tmp_path / "train.jsonl", "reward": SCORE}
    assert f'reward = "{SCORE}"' in done.stdout
    lines = (tmp_path / "train.jsonl").read_text().splitlines()
    assert json.loads(lines[3])["data_source"] == "vf-sums"
    task = build_json_task(JsonTaskConfig(**config, reward_signature="verl"))
    prompts = task.prompts("train")
    scores = task.grade([(prompts[3], "4"), (prompts[3], "5")])
    task.close()
    assert [one.reward for one in scores] == [2.5, 0.5]
    assert scores[0].parts == {"late": 0.0, "right": 1.0, "short": 1.0, "turns": 1.0}
