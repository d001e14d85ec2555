"""Errors of grading responses again, and the record that a grading keeps of its grader."""

import json
from pathlib import Path

import pytest

from tests.evaluation.test_evaluate import measure, words
from unmask.configs.eval import EvalConfig
from unmask.configs.load import load_config
from unmask.evaluation import grading
from unmask.evaluation.grading import digest, grade_run, rescore
from unmask.json_files import read_objects
from unmask.rewards.answers import answer_from_response
from unmask.tasks.task import Task, prompt_from_text
from unmask.types import Score


def test_a_grading_records_the_grader_and_the_answers(tmp_path: Path) -> None:
    measure(tmp_path)
    run = tmp_path / "run"
    grader = json.loads((run / "gradings/1/grader.json").read_text())
    assert grader["task"]["reward"] == "tests.evaluation.test_evaluate:half_right"
    assert {"unmask", "latex2sympy2_extended", "reasoning-gym", "sympy"} == set(grader["versions"])
    texts = {r["problem"]: r["text"] for r in read_objects(run / "trajectories.jsonl")}
    for verdict in read_objects(run / "gradings/1/verdicts.jsonl"):
        assert verdict["answer"] == answer_from_response(texts[verdict["problem"]])


def test_a_package_that_is_not_installed_has_no_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(package: str) -> str | None:  # as without the extra `puzzles`
        return None if package == "reasoning-gym" else "1"

    monkeypatch.setattr(grading, "package_version", version)
    measure(tmp_path)
    grader = json.loads((tmp_path / "run/gradings/1/grader.json").read_text())
    assert {"unmask", "latex2sympy2_extended", "sympy"} == set(grader["versions"])


def test_only_the_task_can_be_changed(tmp_path: Path) -> None:
    measure(tmp_path)
    with pytest.raises(
        ValueError, match=r"^samples=3: rescore generates nothing, so only task\.\*"
    ):
        rescore(tmp_path / "run", ["samples=3"])
    with pytest.raises(ValueError, match="problems are not those that were asked"):
        rescore(tmp_path / "run", ["task.template={question}?"])
    assert [path.name for path in (tmp_path / "run" / "gradings").iterdir()] == ["1"]


def test_a_directory_that_is_no_evaluation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not an evaluation: protocol"):
        rescore(tmp_path, [])
    (tmp_path / "protocol.json").write_text("{}")
    with pytest.raises(ValueError, match="is not finished; resume it"):
        rescore(tmp_path, [])


def test_a_reward_that_is_no_number_stops_it_and_names_the_problem(tmp_path: Path) -> None:
    measure(tmp_path)
    config = load_config(EvalConfig, [], words(tmp_path))[0]
    task = Task(
        "math",
        prompts=lambda _: [],
        demonstration=lambda _: None,
        grade=lambda items: [Score(float("nan")) for _ in items],
    )
    problems = [prompt_from_text("math", str(n), {}) for n in range(10)]
    with pytest.raises(ValueError, match=r"response to prompt \d+ of task 'math' is nan"):
        grade_run(tmp_path / "run", config, task, problems)
    assert [path.name for path in (tmp_path / "run" / "gradings").iterdir()] == ["1"]


def test_the_digest_tells_other_problems_and_another_order() -> None:
    a, b = prompt_from_text("t", "1", {"answer": 2}), prompt_from_text("t", "2", {})
    assert digest([a, b]) == digest([a, b])
    assert len({digest(problems) for problems in ([a], [b], [a, b], [b, a])}) == 4
    assert digest([a]) == digest([prompt_from_text("other", "1", {})])
