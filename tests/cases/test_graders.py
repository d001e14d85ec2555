"""Answers and programs that were graded wrongly once, through the data sets' own files."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cases.command import refused, rewards, tiny_model, unmask

HERE = Path(__file__).parent
MATH = json.loads((HERE / "math.json").read_text())
PROGRAMS = json.loads((HERE / "programs.json").read_text())
FENCES = json.loads((HERE / "fences.json").read_text())


def wrong_verdicts(cases: list[dict[str, Any]], found: list[float]) -> list[tuple[Any, float]]:
    pairs = zip(cases, found, strict=True)
    return [(case, paid) for case, paid in pairs if (paid == 1.0) != case.get("right", True)]


@pytest.mark.parametrize("kind", MATH)
def test_mathematical_answers(kind: str, tmp_path: Path) -> None:
    cases = MATH[kind]
    file = tmp_path / "questions.jsonl"
    golds = [{"question": f"{i}?", "ground_truth_answer": c["gold"]} for i, c in enumerate(cases)]
    file.write_text("\n".join(map(json.dumps, golds)))
    task = {
        "kind": "json",
        "test": file,
        "template": "{question}",
        "extraction": cases[0].get("extraction", "boxed"),
    }
    assert wrong_verdicts(cases, rewards(task, [case["response"] for case in cases])) == []


@pytest.mark.parametrize("kind", PROGRAMS)
def test_programs(kind: str, tmp_path: Path) -> None:
    cases = PROGRAMS[kind]
    file = tmp_path / "livecodebench.jsonl"
    file.write_text("\n".join(json.dumps(contest_problem(case)) for case in cases))
    task = {"kind": "dataset", "name": "livecodebench", "path": file}
    responses = [f"```python\n{case['program']}{method(case)}\n```" for case in cases]
    assert wrong_verdicts(cases, rewards(task, responses)) == []


def method(case: dict[str, Any]) -> str:
    """Return the method by which this data set calls a function of the program."""
    if "call" not in case:
        return ""
    call = f"return globals()[{case['call']!r}](*args)"
    return f"\nclass Solution:\n    def {case['call']}(self, *args):\n        {call}\n"


def contest_problem(case: dict[str, Any]) -> dict[str, str]:
    if "stdout" in case:
        test = {"testtype": "stdin", "input": case["stdin"], "output": case["stdout"]}
        starter, metadata = "", {}
    else:
        lines = "\n".join(map(json.dumps, case["args"]))
        test = {"testtype": "functional", "input": lines, "output": json.dumps(case["expected"])}
        starter, metadata = "class Solution: ...", {"func_name": case["call"]}
    return {
        "question_content": case["name"],
        "starter_code": starter,
        "public_test_cases": json.dumps([test]),
        "private_test_cases": "[]",
        "metadata": json.dumps(metadata),
    }


@pytest.mark.parametrize("kind", FENCES)
def test_which_text_is_the_program(kind: str, tmp_path: Path) -> None:
    case = FENCES[kind]
    file = tmp_path / f"{case['set']}-test.jsonl"
    file.write_text("\n".join(json.dumps(case["problem"]) for _ in case["responses"]))
    task = {"kind": "dataset", "name": case["set"], "path": file}
    found = rewards(task, [response["response"] for response in case["responses"]])
    assert wrong_verdicts(case["responses"], found) == []


def test_a_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    line = b'{"question": "1+1?", "ground_truth_answer": "2"}\r\n'
    file.write_bytes(b"\xef\xbb\xbf" + line)
    assert rewards({"kind": "json", "test": file}, [r"\boxed{2}"]) == [1.0]


def test_livecodebench_from_the_hub_names_the_keys_for_local_files(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    # Where the hub has a loading script, `datasets` finds a script of the same name.
    place = tmp_path / "livecodebench" / "code_generation_lite"
    place.mkdir(parents=True)
    (place / "code_generation_lite.py").write_text("")
    (place / "test.jsonl").write_text("{}")
    model = tiny_model(tmp_path / "model")
    words = ["task.kind=dataset", "task.name=livecodebench", f"model.path={model}"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    environment.pop("UNMASK_DATA", None)
    result = unmask("eval", *words, "run.dir=run", cwd=tmp_path, env=environment)
    assert "task.path" in refused(result)


def test_lenient_verifiers_of_reasoning_gym_pay_no_junk() -> None:
    for name, junk in (
        ("complex_arithmetic", "nan"),
        ("complex_arithmetic", "nan+nanj"),
        ("game_of_life_halting", "no idea"),
    ):
        task = {"kind": "reasoning_gym", "name": name, "size": 40, "allow_lenient": True}
        assert set(rewards(task, [f"<answer>{junk}</answer>"])) == {0.0}, name
