"""JSON tasks: lists and lines, layouts, templates that leave questions unchanged, errors that name the line."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from unmask.configs.task import JsonTaskConfig
from unmask.tasks.build import build_task

PROBLEMS: list[dict[str, Any]] = [
    {"question": "What is half of {1}?", "ground_truth_answer": "\\frac{1}{2}"},
    {"question": "What is 1000 + 234?", "ground_truth_answer": 1234},
]


def test_a_list_and_lines_hold_the_same_problems(tmp_path: Path):
    (tmp_path / "list.dat").write_text("\n " + json.dumps(PROBLEMS, indent=1))
    (tmp_path / "lines.dat").write_text("\n\n".join(map(json.dumps, PROBLEMS)) + "\n")
    task = build_task(JsonTaskConfig(train=tmp_path / "list.dat", test=tmp_path / "lines.dat"))
    assert task.prompts("train") == task.prompts("test")
    first = task.prompts("train")[0]
    assert first.messages[0].content == (
        "What is half of {1}?\nPlease reason step by step, and put your final answer within \\boxed{}."
    )
    assert first.reference == {"answer": "\\frac{1}{2}"}
    assert task.demonstration(first) is None
    with pytest.raises(ValueError, match=r"task\.validation is not given"):
        task.prompts("validation")


def test_files_of_one_task_may_differ_in_layout_but_not_in_grader(tmp_path: Path):
    (tmp_path / "train.json").write_text(json.dumps([{"question": "q", "answer": "#### 3"}]))
    (tmp_path / "test.json").write_text(json.dumps(PROBLEMS))
    code = {"question": "q", "test_method": "stdio", "test_input": ["1"], "test_output": ["2"]}
    (tmp_path / "code.json").write_text(json.dumps([code]))
    task = build_task(JsonTaskConfig(train=tmp_path / "train.json", test=tmp_path / "test.json"))
    assert [len(task.prompts("train")), len(task.prompts("test"))] == [1, 2]
    config = JsonTaskConfig(train=tmp_path / "train.json", test=tmp_path / "code.json")
    with pytest.raises(ValueError, match=r"task\.train has answers, task\.test has programs"):
        build_task(config)


def test_a_layout_can_be_named_and_a_mapped_field_must_exist(tmp_path: Path):
    record = {"question": "q", "answer": "#### 1", "ground_truth_answer": 2}
    (tmp_path / "a.json").write_text(json.dumps([record]))
    task = build_task(JsonTaskConfig(train=tmp_path / "a.json", layout="gsm8k"))
    assert task.prompts("train")[0].reference["answer"] == "1"
    config = JsonTaskConfig(train=tmp_path / "a.json", fields={"question": "problem"})
    with pytest.raises(ValueError, match=r"item 1: 'problem' \(task\.fields\) is missing"):
        build_task(config)
    with pytest.raises(ValueError, match=r"no layout 'gsm'; there are code, gsm8k, prompt"):
        JsonTaskConfig(layout="gsm")


def test_graded_by_math_verify_in_the_workers(tmp_path: Path):
    (tmp_path / "test.json").write_text(json.dumps(PROBLEMS))
    with closing(build_task(JsonTaskConfig(test=tmp_path / "test.json"))) as task:
        half, sum_ = task.prompts("test")
        scores = task.grade(
            [(half, r"\boxed{0.5}"), (sum_, r"\boxed{1,234}"), (sum_, r"\boxed{1235}"), (half, "")]
        )
    assert [score.reward for score in scores] == [1.0, 1.0, 0.0, 0.0]


def test_json_numbers_are_read_and_golds_that_cannot_be_read_are_named(tmp_path: Path):
    golds = [1e-05, 120000, "4.5e7", "np.arcsin(10/13)"]
    problems = [{"question": "q", "ground_truth_answer": gold} for gold in golds]
    (tmp_path / "test.json").write_text(json.dumps(problems))
    with pytest.warns(UserWarning, match=r"task\.test: 1 of 4 golds .*'np\.arcsin\(10/13\)'$"):
        task = build_task(JsonTaskConfig(test=tmp_path / "test.json"))
    answers = ["0.00001", "1.2e5", r"4.5\times10^{7}", "np.arcsin(10/13)"]
    with closing(task):
        responses = [f"\\boxed{{{answer}}}" for answer in answers]
        scores = task.grade(list(zip(task.prompts("test"), responses, strict=True)))
    assert [score.reward for score in scores] == [1.0] * 4


def test_the_users_own_reward_takes_math_verifys_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "test.json").write_text(json.dumps(PROBLEMS))
    (tmp_path / "short_reward.py").write_text("def score(prompt, response): return -len(response)")
    monkeypatch.syspath_prepend(tmp_path)
    task = build_task(JsonTaskConfig(test=tmp_path / "test.json", reward="short_reward:score"))
    assert task.grade([(task.prompts("test")[0], "abc")])[0].reward == -3.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("", "holds no problem"),
        ("[]", "holds no problem"),
        ('{"question": "q", "ground_truth_answer": "1"}\n{"question": "q"}', "line 2.*'ground_tru"),
        ('[{"ground_truth_answer": "1"}]', "item 1.*'ground_truth_answer', which is no layout"),
        (
            '[{"question": ""}]',
            r"\(code: question, test_method; gsm8k: question, answer; .*task.fie",
        ),
        ('[{"question": "q", "answer": "#### 1", "ground_truth_answer": 1}]', "task.layout"),
        ('{"question": "q", "ground_truth_answer": true}', "line 1.*'ground_truth_answer'.*True"),
        ('{"question": "q", "ground_truth_answer": " "}', "line 1.*'ground_truth_answer'"),
        ('\n{"question": ', "line 2: not JSON"),
        ("[1]", "item 1: expected an object, found int"),
        ("[", "not JSON"),
    ],
)
def test_a_wrong_file_is_one_clear_error(tmp_path: Path, content: str | None, message: str):
    path = tmp_path / "test.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=rf"task\.test = {path}.*{message}"):
        build_task(JsonTaskConfig(test=path))


@pytest.mark.parametrize(
    ("template", "message"),
    [("Solve.", "is missing"), ("{question} \\boxed{}", "twice"), ("{question} {hint}", "hint")],
)
def test_a_template_that_cannot_be_filled_is_refused(template: str, message: str):
    with pytest.raises(ValueError, match=rf"task\.template = .*{message}"):
        build_task(JsonTaskConfig(template=template))
