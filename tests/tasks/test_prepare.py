"""Copies of public data sets: the same lines from every form, and errors that name file and line."""

import gzip
import hashlib
import json
from pathlib import Path

import pytest

from tests.data.images import png
from tests.real_data import real_file
from unmask.configs.task import DatasetTaskConfig
from unmask.tasks.build import build_task
from unmask.tasks.prepare import copies
from unmask.tasks.public_datasets import dataset_by_name
from unmask.types import Split

ROWS = [{"question": f"{n}+1?", "answer": f"é {n + 1}\n#### {n + 1}"} for n in range(3)]
GSM8K = dataset_by_name("gsm8k")


def test_a_list_and_compressed_lines_give_the_same_copy_with_its_checksum(tmp_path: Path):
    (tmp_path / "a.json").write_text(json.dumps(ROWS, indent=1))
    lines = "\n\n".join(map(json.dumps, ROWS))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (one,) = copies(GSM8K, tmp_path / "a.json", "test")
    (other,) = copies(GSM8K, tmp_path / "b.jsonl.gz", "test")
    assert one == other
    assert (one.num_problems, one.file) == (3, "gsm8k-test.jsonl")
    assert one.sha256 == hashlib.sha256(one.text.encode()).hexdigest()
    assert one.first_prompt.startswith("0+1?\nPlease reason")
    assert [json.loads(line) for line in one.text.splitlines()] == ROWS


def test_a_copy_is_what_the_task_reads(tmp_path: Path):
    source = real_file("gsm8k-test-400.jsonl")
    (copy,) = copies(GSM8K, source, None)
    assert copy.num_problems == 400
    (tmp_path / copy.file).write_text(copy.text)
    ours = build_task(DatasetTaskConfig(name="gsm8k", path=tmp_path)).prompts("test")
    assert ours == build_task(DatasetTaskConfig(name="gsm8k", path=source)).prompts("test")
    assert ours[0].messages[0].content == copy.first_prompt


def test_a_directory_has_the_splits_whose_files_are_there(tmp_path: Path):
    for name in ("gsm8k-train.jsonl", "gsm8k-test-first.jsonl"):
        (tmp_path / name).write_text("\n".join(map(json.dumps, ROWS)))
    assert [copy.split for copy in copies(GSM8K, tmp_path, None)] == ["train", "test"]
    assert [copy.split for copy in copies(GSM8K, tmp_path, "test")] == ["test"]


def test_records_of_other_tasks_are_counted_and_unfit_ones_named(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    math = {"problem": "1+1?", "answer": "2"}
    records = [math, math | {"question_type": "proof"}, math | {"answer": "", "id": "p3"}]
    path.write_text("\n".join(map(json.dumps, records)))
    (copy,) = copies(dataset_by_name("openr1_math"), path, None)
    assert (copy.num_problems, copy.num_others, len(copy.text.splitlines())) == (1, 1, 2)
    assert copy.left_out[0].startswith("id p3: ")


@pytest.mark.parametrize(
    ("content", "split", "message"),
    [
        ('{"question": "q", "answer": "7"}', "test", "a.jsonl, line 1: 'answer' must end in `####"),
        ('\n{"question": ', "test", "a.jsonl, line 2: not JSON"),
        ("", "test", "no test problem was found"),
        ("", None, "a.jsonl: the name does not begin with .*--split train or --split test"),
        ("", "validation", "--split validation: published are train and test"),
        (r'{"question": "\ud800", "answer": "#### 1"}', "test", "line 1: cannot be written"),
        (None, "test", "there is no such file"),
    ],
)
def test_what_cannot_be_copied_is_one_line(
    tmp_path: Path, content: str | None, split: Split | None, message: str
):
    path = tmp_path / "a.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        list(copies(GSM8K, path, split))
    assert len(str(caught.value).splitlines()) == 1


def test_a_directory_without_the_files_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"has no gsm8k-train\.jsonl or gsm8k-test\.jsonl"):
        list(copies(GSM8K, tmp_path, None))


def test_a_copy_of_parquet_holds_its_images_and_reads_as_the_original(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    monkeypatch.setenv("UNMASK_CACHE", str(tmp_path / "cache"))
    row = {"question": "Two?", "choice_a": "1", "choice_b": "2", "choice_c": "3", "choice_d": "4"}
    row |= {"answer": "B", "data_type": "image", "question_id": "7"}
    rows = [{**row, "image": [{"bytes": png(n), "path": None}]} for n in (1, 2)]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    (copy,) = copies(dataset_by_name("seedbench"), tmp_path / "a.parquet", None)
    assert copy.first_prompt.startswith("<image>\nTwo?\nA. 1")
    assert [image.data for image in copy.images] == [png(1)]
    (tmp_path / "b.jsonl").write_text(copy.text)
    (again,) = copies(dataset_by_name("seedbench"), tmp_path / "b.jsonl", None)
    assert (again.text, again.sha256) == (copy.text, copy.sha256)
    for name in ("a.parquet", "b.jsonl"):
        task = build_task(DatasetTaskConfig(name="seedbench", path=tmp_path / name))
        found = [prompt.messages[0].images[0].data for prompt in task.prompts("test")]
        assert found == [png(1), png(2)]
