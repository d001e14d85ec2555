"""MMMU: records made by hand after the published fields."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.data.images import png
from tests.tasks.hand_made import rewards, write
from unmask.configs.task import DatasetTaskConfig
from unmask.tasks.build import build_task

CHOICE = {
    "id": "validation_Art_1",
    "question": "Which of <image 1> and <image 2> is older?",
    "options": "['the first', \"<image 3>\"]",
    "answer": "A",
    "question_type": "multiple-choice",
    **{f"image_{n}": {"bytes": png(n), "path": f"{n}.png"} for n in (1, 2, 3)},
    **{f"image_{n}": None for n in range(4, 8)},
}
OPEN = {**CHOICE, "question": "How long is <image 1>?", "question_type": "open"}
OPEN |= {"answer": "['24/7', '3.429']", "options": "[]"}
ONE = {**OPEN, "answer": "heart"}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMASK_CACHE", str(tmp_path / "cache"))


def test_the_published_wording_and_the_images(tmp_path: Path) -> None:
    path = write(tmp_path, [CHOICE, OPEN])
    with closing(build_task(DatasetTaskConfig(name="mmmu", path=path))) as task:
        first, second = (prompt.messages[0] for prompt in task.prompts("test"))
    assert first.content == (
        "<image>\n<image>\n<image>\nWhich of <image 1> and <image 2> is older?\nA. the first\n"
        "B. <image 3>\n\nAnswer with the option's letter from the given choices directly."
    )
    assert [image.data for image in first.images] == [png(1), png(2), png(3)]
    assert second.content == (
        "<image>\nHow long is <image 1>?\n\nAnswer the question using a single word or phrase."
    )


def test_choices_and_open_answers_are_graded(tmp_path: Path) -> None:
    table = [
        (CHOICE, "A", 1.0),
        (CHOICE, "the first", 1.0),
        (CHOICE, "B", 0.0),
        (CHOICE, "A, B", 0.0),
        (OPEN, "3.429", 1.0),
        (OPEN, "24/7", 1.0),
        (OPEN, "3", 0.0),
        (OPEN, "1 2 3 3.429", 0.0),
        (ONE, "The heart.", 1.0),
        (ONE, "heart, lung, liver", 0.0),
    ]
    records = [record for record, *_ in table]
    assert rewards("mmmu", tmp_path, records, [text for _, text, _ in table]) == [
        right for *_, right in table
    ]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"options": "no list"}, "'options' must be a list of 1 to 26 texts"),
        ({"options": "__import__('os')"}, "'options' must be a list"),
        ({"options": "[" * 10**5}, "'options' must be a list"),
        ({"image_2": None}, "'image_2' must hold an image"),
        ({"image_2": {"bytes": b"text", "path": None}}, "image_2 is no image"),
    ],
)
def test_a_record_that_cannot_be_read_is_named(
    changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write(tmp_path, [CHOICE, {**CHOICE, **changed}])
    task = build_task(DatasetTaskConfig(name="mmmu", path=path))
    with pytest.raises(ValueError, match=f"line 2: {message}"):
        task.prompts("test")


def test_a_hidden_answer_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, [CHOICE, {**CHOICE, "answer": "?"}])
    task = build_task(DatasetTaskConfig(name="mmmu", path=path))
    with pytest.warns(UserWarning, match="must be a letter of the 2 options"):
        assert len(task.prompts("test")) == 1
