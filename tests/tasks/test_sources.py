"""The places of records: the path, `$UNMASK_DATA`, the hub; and the errors if none has them."""

import gzip
import importlib.util
import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from unmask.tasks.dataset import Dataset, Problem, Source
from unmask.tasks.sources import read_split

TWO = Dataset(
    hub="authors/two-splits",
    sources={"train": Source("two-train", "train"), "test": Source("two-test", "test")},
    problem=lambda record: Problem(record.text("q"), {}),
)
ONE = Dataset(hub="authors/one", sources={"test": Source("one", "train")}, problem=TWO.problem)
ROWS = [{"q": "first"}, {"q": "second"}]
LINES = "\n".join(map(json.dumps, ROWS))

without_datasets = pytest.mark.skipif(
    importlib.util.find_spec("datasets") is not None, reason="the datasets package is installed"
)


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNMASK_DATA", raising=False)


def write(path: Path) -> Path:
    data = json.dumps(ROWS) if ".json." in f"{path.name}." else LINES
    path.write_bytes(gzip.compress(data.encode()) if path.suffix == ".gz" else data.encode())
    return path


@pytest.mark.parametrize(
    "name",
    [
        "two-test.jsonl",
        "two-test.json",
        "two-test.jsonl.gz",
        "two-test.json.gz",
        "two-test-9.jsonl",
    ],
)
def test_a_file_and_its_directory_hold_the_same_records(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    write(tmp_path / "two-train.jsonl")
    (tmp_path / "two-testament.jsonl").write_text("not this one")
    (tmp_path / "two-test.txt").write_text("nor this one")
    for place in (path, tmp_path):
        records = list(read_split(TWO, "test", place))
        assert [record.values for record in records] == ROWS
        assert f"task.path = {path}, " in records[0].place


def test_the_only_split_may_have_any_name(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.jsonl")
    assert [record.values for record in read_split(ONE, "test", path)] == ROWS


def test_a_file_that_may_be_another_split_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "two-train.jsonl")
    with pytest.raises(ValueError, match=r"task\.path = .*two-train.jsonl.*begin with two-test"):
        list(read_split(TWO, "test", path))


def test_a_directory_without_the_split_or_with_two_of_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=rf"task\.path = {tmp_path}: it has no file of the test problems"
    ):
        list(read_split(TWO, "test", tmp_path))
    write(tmp_path / "two-test-1.jsonl")
    write(tmp_path / "two-test-2.jsonl")
    with pytest.raises(ValueError, match=r"two-test-1.jsonl, two-test-2"):
        list(read_split(TWO, "test", tmp_path))


def test_the_variable_names_a_directory_and_a_path_goes_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "two-test.jsonl")
    monkeypatch.setenv("UNMASK_DATA", str(tmp_path))
    assert [record.values for record in read_split(TWO, "test", None)] == ROWS
    other = tmp_path / "other"
    other.mkdir()
    (other / "two-test.jsonl").write_text('{"q": "mine"}')
    assert [record.values for record in read_split(TWO, "test", other)] == [{"q": "mine"}]
    monkeypatch.setenv("UNMASK_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"UNMASK_DATA = .*nowhere: there is no such directory"):
        list(read_split(TWO, "test", None))


@without_datasets
def test_without_any_place_the_three_solutions_are_named() -> None:
    with pytest.raises(ValueError) as caught:
        list(read_split(TWO, "test", None))
    message = str(caught.value)
    for way in ("task.path", "UNMASK_DATA to a directory with two-test.jsonl", "unmask[data]"):
        assert way in message


@without_datasets
def test_parquet_without_its_reader_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "two-test.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"two-test.parquet: .*unmask\[data\]"):
        list(read_split(TWO, "test", tmp_path))


def test_parquet_holds_the_same_records(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.Table.from_pylist(ROWS), tmp_path / "two-test.parquet")
    assert [record.values for record in read_split(TWO, "test", tmp_path)] == ROWS


def test_the_hub_is_read_by_the_datasets_package(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    write(tmp_path / "test.jsonl")
    # A directory stands for a hub id here: the package loads both alike.
    local = Dataset(str(tmp_path), TWO.sources, TWO.problem)
    assert [record.values for record in read_split(local, "test", None)] == ROWS
    nowhere = Dataset(str(tmp_path / "nowhere"), TWO.sources, TWO.problem)
    with pytest.raises(ValueError, match=r"cannot be loaded from the hub .*task\.path"):
        list(read_split(nowhere, "test", None))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Dataset scripts are no longer supported, but found one.py"),
        OSError("no connection"),
        LookupError("whatever a foreign package raises"),
    ],
)
def test_a_set_that_the_hub_cannot_load_names_the_keys_for_local_files(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_dataset(*_: object, **__: object) -> None:
        raise error

    stand_in: Any = ModuleType("datasets")
    stand_in.__spec__ = ModuleSpec("datasets", None)
    stand_in.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", stand_in)
    with pytest.raises(ValueError, match=r"cannot be loaded from the hub .*task\.path") as caught:
        list(read_split(ONE, "test", None))
    assert str(error) in str(caught.value)
    assert "UNMASK_DATA to a directory with one.jsonl" in str(caught.value)
