"""The layout `gsm8k`: raw rows, as `kind = "dataset"` reads them; an answer without its mark is refused."""

from pathlib import Path

import pytest

from tests.real_data import real_file
from tests.tasks.own_files import prompts, rewards
from unmask.configs.task import DatasetTaskConfig, JsonTaskConfig
from unmask.tasks.build import build_task

ROW = {"question": "Half of 48?", "answer": "It is <<48/2=24>>24.\n#### 24"}


def test_raw_rows_are_graded_by_their_number_and_have_a_demonstration(tmp_path: Path):
    (prompt,) = prompts(tmp_path, [ROW])
    assert prompt.reference["answer"] == "24"
    task = build_task(JsonTaskConfig(train=tmp_path / "own.jsonl"))
    solution = task.demonstration(prompt)
    assert solution == "It is 24.\nThe answer is \\boxed{24}."
    assert rewards(tmp_path, [ROW, ROW], [solution, r"\boxed{42}"]) == [1.0, 0.0]


def test_an_answer_without_the_mark_is_refused_with_the_key_to_set(tmp_path: Path):
    message = r"own\.jsonl, line 2: 'answer' must end in `#### number`.*task\.fields"
    with pytest.raises(ValueError, match=message):
        prompts(tmp_path, [ROW, {"question": "q", "answer": "24"}])


def test_the_published_file_has_the_prompts_of_the_data_set():
    path = real_file("gsm8k-test-400.jsonl")
    own = build_task(JsonTaskConfig(name="gsm8k", test=path)).prompts("test")
    public = build_task(DatasetTaskConfig(name="gsm8k", path=path)).prompts("test")
    assert own == public
    assert len(own) == 400
