"""Grading responses of other programs, from Python and from a file."""

import json
from pathlib import Path

import pytest

from tests.cli.test_main import run
from unmask import grade
from unmask.evaluation.grade import read_responses


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    file = tmp_path / "questions.jsonl"
    records = [{"question": f"{n} + {n}?", "ground_truth_answer": str(2 * n)} for n in (1, 2)]
    file.write_text("\n".join(map(json.dumps, records)))
    return file


def test_texts_answer_the_problems_in_order(questions: Path) -> None:
    right, wrong = grade({"kind": "json", "test": questions}, [r"\boxed{2}", r"\boxed{5}"])
    assert (right["outcome"], right["answer"], right["reward"]) == ("correct", "2", 1.0)
    assert (wrong["problem"], wrong["outcome"], wrong["reward"]) == (1, "wrong", 0.0)


def test_a_problem_may_be_answered_several_times(questions: Path) -> None:
    task = {"kind": "json", "test": str(questions), "verifier": {"workers": 1}}
    found = grade(task, [(1, r"\boxed{4}"), (1, r"\boxed{2}"), (0, r"\boxed{2}")])
    assert [record["reward"] for record in found] == [1.0, 0.0, 1.0]


def test_a_problem_that_does_not_exist_is_refused(questions: Path) -> None:
    with pytest.raises(ValueError, match="problem 2: the test split of math has problems 0 to 1"):
        grade({"kind": "json", "test": questions}, [(2, "")])
    with pytest.raises(ValueError, match=r"unknown key task\.tests"):
        grade({"kind": "json", "tests": questions}, [])


def test_responses_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text('{"response": "a"}\n{"response": "b", "problem": 0}')
    assert read_responses(file) == [(0, "a"), (0, "b")]
    file.write_text('{"response": 3}')
    with pytest.raises(ValueError, match="line 1: 'response' must be a string"):
        read_responses(file)
    file.write_text('{"response": "a", "problem": "first"}')
    with pytest.raises(ValueError, match="'problem' must be the number of a problem"):
        read_responses(file)


def test_the_command_prints_a_line_for_each(
    questions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text(json.dumps({"response": r"\boxed{2}"}) + '\n{"response": "no box"}')
    words = ["task.kind=json", f"task.test={questions}"]
    assert run(monkeypatch, "grade", str(file), *words) == 0
    out, error = capsys.readouterr()
    assert [json.loads(line)["reward"] for line in out.splitlines()] == [1.0, 0.0]
    assert error == "2 responses, mean reward 0.5000\n"
    assert run(monkeypatch, "grade", str(tmp_path / "absent.jsonl"), *words) == 2
    assert "no such file" in capsys.readouterr().err
