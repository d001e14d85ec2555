"""Published data sets as tasks: disjoint splits, templates, graders, and errors that name the solution."""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.real_data import real_file
from unmask.configs.load import load_config
from unmask.configs.rl import RLConfig
from unmask.configs.task import DatasetTaskConfig
from unmask.tasks.build import build_task
from unmask.tasks.dataset import Problem
from unmask.tasks.datasets.gsm8k import DATASET as GSM8K
from unmask.tasks.datasets.gsm8k import problem as gsm8k_problem
from unmask.tasks.grader import Grader
from unmask.tasks.record import Record
from unmask.tasks.task import Task
from unmask.types import Split


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, count in (("train", 200), ("test", 3)):
        rows = [
            {"question": f"What is {n} + {{1}} in {split}?", "answer": f"So.\n#### {n + 1}"}
            for n in range(count)
        ]
        (tmp_path / f"gsm8k-{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def gsm8k(path: Path, **keys: Any) -> Task:
    return build_task(DatasetTaskConfig(name="gsm8k", path=path, **keys))


def questions(task: Task, split: Split) -> list[str]:
    return [prompt.messages[0].content.partition("\n")[0] for prompt in task.prompts(split)]


def test_validation_is_cut_from_train_by_the_question_alone(folder: Path) -> None:
    task = gsm8k(folder, validation_share=0.2)
    train, validation, test = (questions(task, s) for s in ("train", "validation", "test"))
    assert len(train) + len(validation) == 200
    assert not set(train) & set(validation)
    assert 20 < len(validation) < 60
    assert test == [f"What is {n} + {{1}} in test?" for n in range(3)]
    other = gsm8k(folder, validation_share=0.2, template="{question}\nNow!")
    assert questions(other, "validation") == validation
    assert task.prompts("train") is task.prompts("train")


def test_a_path_that_does_not_exist_is_refused_when_the_task_is_built(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"task\.path = .*nothing: there is no such file"):
        gsm8k(tmp_path / "nothing")


def test_prompts_and_grades_follow_the_data_set(folder: Path) -> None:
    with closing(gsm8k(folder)) as task:
        prompt = task.prompts("test")[1]
        assert prompt.task == task.name == "gsm8k"
        assert prompt.messages[0].content.endswith("your final answer within \\boxed{}.")
        assert prompt.reference["answer"] == "2"
        right = task.demonstration(prompt)
        assert right == "So.\nThe answer is \\boxed{2}."
        scores = task.grade([(prompt, right), (prompt, "\\boxed{3}")])
    assert [score.reward for score in scores] == [1.0, 0.0]


def test_the_users_own_reward_takes_the_graders_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "length_of.py").write_text("def score(prompt, response): return -len(response)")
    monkeypatch.syspath_prepend(folder)
    task = gsm8k(folder, reward="length_of:score")
    assert task.grade([(task.prompts("test")[0], "abc")])[0].reward == -3.0


def test_what_cannot_be_built_or_read_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"task\.path = .*nowhere"):
        gsm8k(folder / "nowhere")
    with pytest.raises(ValueError, match=r"task\.template = 'Solve'"):
        gsm8k(folder, template="Solve")
    (folder / "gsm8k-test.jsonl").write_text("")
    with pytest.raises(ValueError, match="gsm8k has no test problems"):
        gsm8k(folder).prompts("test")
    (folder / "gsm8k-test.jsonl").write_text('{"question": "q"}')
    with pytest.raises(ValueError, match=r"gsm8k-test.jsonl, line 1: 'answer' must be"):
        gsm8k(folder).prompts("test")


def test_problems_that_no_grader_can_judge_are_left_out_by_name_and_counted(folder: Path) -> None:
    lost = "#### seven"

    def problem(record: Record) -> Problem:
        if record.text("answer").endswith(lost):
            raise record.unfit("answer", "must end in a number")
        return gsm8k_problem(record)

    def find_unfit(problems: Sequence[tuple[Mapping[str, Any], str | None]]) -> list[str]:
        return ["it is too odd" if ref["answer"] == "3" else "" for ref, _ in problems]

    rows = [{"question": f"{n}?", "answer": f"#### {n}", "id": n} for n in range(5)]
    rows[1]["answer"] = lost
    (folder / "gsm8k-test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    grader = Grader(lambda items: [], find_unfit=find_unfit)
    dataset = replace(GSM8K, problem=problem, build_grader=lambda _: grader)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("unmask.tasks.public_datasets.dataset_by_name", lambda _: dataset)
        task = gsm8k(folder)
    with pytest.warns(UserWarning, match="gsm8k: 2 of 5 test problems are left out"):
        assert [text[0] for text in questions(task, "test")] == ["0", "2", "4"]
    unread, odd = task.left_out("test")
    assert unread.startswith(
        f"id 1: task.path = {folder / 'gsm8k-test.jsonl'}, line 2: 'answer' must"
    )
    assert odd == "id 3: it is too odd"
    (folder / "gsm8k-test.jsonl").write_text(json.dumps(rows[3]))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("unmask.tasks.public_datasets.dataset_by_name", lambda _: dataset)
        task = gsm8k(folder)
    with pytest.raises(ValueError, match="no test problems: all are left out: id 3: it is too odd"):
        task.prompts("test")


def test_a_misspelt_name_is_refused_with_similar_names() -> None:
    words = ["task.kind=dataset", "task.name=gsm8", "model.path=m", "run.dir=r"]
    with pytest.raises(ValueError) as caught:
        load_config(RLConfig, [], words)
    assert "task.name (command line): there is no data set 'gsm8'; near it: gsm8k" in str(
        caught.value
    )


def test_the_real_files_have_all_their_problems() -> None:
    folder = real_file("gsm8k-train-2000.jsonl").parent
    task = gsm8k(folder)
    sizes = [len(task.prompts(split)) for split in ("train", "validation", "test")]
    assert sizes[0] + sizes[1] == 2000
    assert sizes[2] == 400
