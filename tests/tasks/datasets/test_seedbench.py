"""SEED-Bench: records made by hand after the published fields."""

from contextlib import closing
from pathlib import Path

import pytest

from tests.data.images import png
from tests.tasks.hand_made import rewards, write
from unmask.configs.task import DatasetTaskConfig
from unmask.tasks.build import build_task

RECORD = {
    "question_id": "101669",
    "question": "How many towels are there?",
    **{f"choice_{letter}": text for letter, text in zip("abcd", ("One", "Two", "Three", "Four"), strict=True)},
    "answer": "A",
    "data_type": "image",
    "image": [{"bytes": png(1), "path": None}],
}  # fmt: skip


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMASK_CACHE", str(tmp_path / "cache"))


def test_the_published_wording_and_the_image(tmp_path: Path) -> None:
    path = write(tmp_path, [RECORD, {**RECORD, "data_type": "video", "image": None}])
    with closing(build_task(DatasetTaskConfig(name="seedbench", path=path))) as task:
        (prompt,) = task.prompts("test")
    (message,) = prompt.messages
    assert message.content == (
        "<image>\nHow many towels are there?\nA. One\nB. Two\nC. Three\nD. Four\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert [image.data for image in message.images] == [png(1)]


def test_answers_are_graded(tmp_path: Path) -> None:
    table = {"A": 1.0, "A.One": 1.0, "one": 1.0, "B": 0.0, "A. Two": 0.0, "ABCD": 0.0, "": 0.0}
    records = [RECORD] * len(table)
    assert rewards("seedbench", tmp_path, records, [*table]) == [*table.values()]


def test_an_answer_that_is_no_letter_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, [RECORD, {**RECORD, "answer": "E"}])
    task = build_task(DatasetTaskConfig(name="seedbench", path=path))
    with pytest.warns(UserWarning, match="must be a letter from A to D"):
        assert len(task.prompts("test")) == 1
