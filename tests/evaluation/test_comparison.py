"""Two evaluations compared: numbers worked out by hand, and what cannot be compared."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.runs.past_runs import write_lines
from unmask.evaluation.comparison import compare_evaluations, difference_of
from unmask.evaluation.estimates import mean_interval
from unmask.evaluation.paired import mcnemar, permutation_test

GRADER = {"task": {"kind": "json", "test": "a.json", "reward": None}, "versions": {"unmask": "1"}}
PROTOCOL = {
    "task": "math",
    "split": "test",
    "problems": 4,
    "problems_sha256": "abc",
    "samples": 1,
}


def evaluation(
    path: Path, right: dict[str, list[list[bool]]], grader: Any = GRADER, **protocol: Any
) -> str:
    """Write a finished evaluation with these verdicts, by sampling, problem and sample."""
    (path / "gradings" / "1").mkdir(parents=True)
    (path / "protocol.json").write_text(json.dumps(PROTOCOL | protocol))
    (path / "gradings" / "1" / "grader.json").write_text(json.dumps(grader))
    verdicts = [
        {
            "variation": name,
            "problem": problem,
            "sample": sample,
            "outcome": "correct" if is_right else "wrong",
        }
        for name, problems in right.items()
        for problem, samples in enumerate(problems)
        for sample, is_right in enumerate(samples)
    ]
    write_lines(path / "gradings" / "1" / "verdicts.jsonl", verdicts[::-1])
    return str(path)


def test_one_answer_each_is_judged_by_mcnemar() -> None:
    first, second = [1.0, 0.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 1.0, 1.0]
    found = difference_of(first, second)
    assert found.accuracies == (0.4, 0.8)
    assert found.difference == pytest.approx(0.4)
    assert (found.better, found.p_value, found.test) == ((1, 3), mcnemar(1, 3), "McNemar, exact")
    assert found.ci95 == mean_interval([-1, 1, 1, 1, 0])


def test_several_answers_are_judged_by_permutation() -> None:
    first, second = [0.5, 0.0, 1.0], [1.0, 0.25, 1.0]
    found = difference_of(first, second)
    assert found.p_value == permutation_test([0.5, 0.25, 0.0])
    assert found.test.startswith("permutation") and found.better == (0, 2)


def test_runs_are_compared_problem_by_problem(tmp_path: Path) -> None:
    right = {"dynamic": [[True], [False], [False], [False]]}
    a = evaluation(tmp_path / "a", right)
    grader = json.loads(json.dumps(GRADER))
    grader["task"] |= {"test": "elsewhere.json", "sandbox": {"workers": 8}}
    b = evaluation(tmp_path / "b", {"static": [[True], [True], [True], [False]]}, grader)
    _, line = compare_evaluations(a, b).splitlines()
    assert line.split()[:6] == ["dynamic", "/", "static", "25.0%", "75.0%", "+50.0%"]
    assert "0.5" in line and "0 / 2" in line and line.endswith("McNemar, exact")


def test_several_samplings_are_paired_by_name_or_named(tmp_path: Path) -> None:
    yes, no = [[True]] * 4, [[False]] * 4
    a = evaluation(tmp_path / "a", {"x": yes, "y": no, "z": no})
    b = evaluation(tmp_path / "b", {"y": yes, "x": yes, "w": no})
    names = [line.split()[0] for line in compare_evaluations(a, b).splitlines()[1:]]
    assert names == ["x", "y"]
    assert "x / y" in compare_evaluations(f"{a}@x", f"{a}@y")
    with pytest.raises(ValueError, match="has no sampling 'v'; it has x, y, z"):
        compare_evaluations(f"{a}@v", b)
    c = evaluation(tmp_path / "c", {"p": yes, "q": yes})
    with pytest.raises(ValueError, match=r"samplings x, y, z and .* has p, q: name one of each"):
        compare_evaluations(a, c)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"problems_sha256": "x"}, "problems_sha256: "),
        ({"samples": 2}, "samples: .* has 1 and .* has 2"),
        ({"split": "train"}, "split: "),
        ({"grader": {**GRADER, "versions": {"unmask": "2"}}}, "versions.unmask: .*rescore"),
        ({"grader": {**GRADER, "task": {"kind": "json", "reward": "m:f"}}}, "task.reward: "),
    ],
)
def test_what_was_asked_or_judged_otherwise_is_refused_by_name(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    right = {"dynamic": [[True]] * 4}
    a = evaluation(tmp_path / "a", right)
    b = evaluation(tmp_path / "b", right, **changes)
    with pytest.raises(ValueError, match=f"^{message}"):
        compare_evaluations(a, b)


def test_what_is_no_evaluation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a finished evaluation"):
        compare_evaluations(str(tmp_path), str(tmp_path))
