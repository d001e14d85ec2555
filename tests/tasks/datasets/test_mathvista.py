"""MathVista: records made by hand after the published fields."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.data.images import png, write_png
from tests.tasks.hand_made import rewards, write
from unmask.configs.task import DatasetTaskConfig
from unmask.tasks.build import build_task

WHOLE = {
    "pid": "1",
    "question": "How many are left?",
    "image": "images/1.jpg",
    "decoded_image": {"bytes": png(1), "path": "1.png"},
    "choices": None,
    "unit": None,
    "precision": None,
    "answer": "4",
    "question_type": "free_form",
    "answer_type": "integer",
}
FLOAT = {**WHOLE, "answer_type": "float", "precision": 1.0, "answer": "1.2", "unit": "$"}
LIST = {**WHOLE, "answer_type": "list", "answer": "[2007, 2008]"}
CHOICE = {**WHOLE, "question_type": "multi_choice", "answer_type": "text", "answer": "8/11"}
CHOICE["choices"] = ["3/11", "8/11"]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMASK_CACHE", str(tmp_path / "cache"))


def test_the_published_wording_and_the_image(tmp_path: Path) -> None:
    path = write(tmp_path, [WHOLE, FLOAT, {**FLOAT, "precision": 2}, LIST, CHOICE])
    with closing(build_task(DatasetTaskConfig(name="mathvista", path=path))) as task:
        messages = [prompt.messages[0] for prompt in task.prompts("test")]
    one = "<image>\nHow many are left?"
    number = "Answer the question using a single floating-point number with"
    assert [message.content for message in messages] == [
        f"{one}\nAnswer the question using a single integer number.",
        f"{one} (Unit: $)\n{number} one decimal place.",
        f"{one} (Unit: $)\n{number} two decimal places.",
        f"{one}\nAnswer the question using a Python list.",
        f"{one}\nA. 3/11\nB. 8/11\nAnswer with the option's letter from the given choices directly.",
    ]
    assert all(message.images[0].data == png(1) for message in messages)


def test_answers_are_graded(tmp_path: Path) -> None:
    table = [
        (WHOLE, "4", 1.0),
        (WHOLE, "4.0", 1.0),
        (WHOLE, "4.4", 0.0),
        (WHOLE, "1, 2, 3, 4", 0.0),
        (FLOAT, "1.2", 1.0),
        (FLOAT, "$1.23", 1.0),
        (FLOAT, "1.3", 0.0),
        (LIST, "[2007,2008]", 1.0),
        (LIST, "[2008, 2007]", 0.0),
        (CHOICE, "B", 1.0),
        (CHOICE, "(B) 8/11", 1.0),
        (CHOICE, "8/11", 1.0),
        (CHOICE, "A", 0.0),
        (CHOICE, "3/11 8/11", 0.0),
    ]
    records = [record for record, *_ in table]
    found = rewards("mathvista", tmp_path, records, [text for _, text, _ in table])
    assert found == [right for *_, right in table]


def test_without_a_decoded_image_the_path_is_read(tmp_path: Path) -> None:
    write_png(tmp_path / "root" / "images" / "1.png", 5)
    record = {**WHOLE, "decoded_image": None, "image": "images/1.png"}
    (tmp_path / "own.jsonl").write_text(json.dumps(record))
    config = DatasetTaskConfig(
        name="mathvista", path=tmp_path / "own.jsonl", image_root=tmp_path / "root"
    )
    assert build_task(config).prompts("test")[0].messages[0].images[0].data == png(5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"answer_type": "float"}, "'answer_type' must be integer, float"),
        ({"answer_type": "other"}, "'answer_type' must be integer, float"),
        ({"decoded_image": None}, r"images/1\.jpg cannot be read as an image"),
        ({"decoded_image": None, "image": None}, "'image' must hold an image"),
    ],
)
def test_a_record_that_cannot_be_read_is_named(
    changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    task = build_task(
        DatasetTaskConfig(name="mathvista", path=write(tmp_path, [{**WHOLE, **changed}]))
    )
    with pytest.raises(ValueError, match=f"line 1: .*{message}"):
        task.prompts("test")
