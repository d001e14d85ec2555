"""Files of records: JSON, Parquet, and the hub where the package is not installed."""

import importlib.util
import json
from pathlib import Path

import pytest

from tests.data.images import png
from unmask.data.record_files import has_datasets, read_file, read_hub

ROWS = [{"prompt": "a", "response": "b"}, {"prompt": "c", "response": "d"}]


def test_lines_and_lists_are_read_with_their_places(tmp_path: Path) -> None:
    lines, listed = tmp_path / "a.jsonl", tmp_path / "b.json"
    lines.write_text("\ufeff" + "\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    listed.write_text(json.dumps(ROWS))
    assert [record for _, record in read_file(lines, "data.path")] == ROWS
    assert next(read_file(lines, "data.path"))[0] == f"data.path = {lines}, line 1"
    assert next(read_file(listed, "data.path"))[0] == f"data.path = {listed}, item 1"


def test_parquet_holds_the_same_records(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    rows = [{"n": n, "turns": [{"role": "user", "content": str(n)}]} for n in range(3000)]
    parquet.write_table(arrow.Table.from_pylist(rows), path)
    found = list(read_file(path, "data.path"))
    assert [record for _, record in found] == rows
    assert found[2000][0] == f"data.path = {path}, row 2001"
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"data\.path = .*a\.parquet: cannot be read"):
        list(read_file(path, "data.path"))


def test_a_missing_parquet_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.path = .*a\.parquet: no such file"):
        list(read_file(tmp_path / "a.parquet", "data.path"))


@pytest.mark.skipif(importlib.util.find_spec("datasets") is not None, reason="datasets is there")
def test_the_package_is_looked_for() -> None:
    assert not has_datasets()


@pytest.mark.parametrize("skip", [None, 0, 1])
def test_a_set_of_the_hub_is_read_by_rows(skip: int | None, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    found = list(read_hub(str(tmp_path), None, "train", skip))
    assert [dict(record) for _, record in found] == ROWS[skip or 0 :]
    assert found[-1][0] == f"{tmp_path} train, row 2"
    with pytest.raises(ValueError, match=r"cannot be loaded from the hub") as caught:
        read_hub(str(tmp_path / "nowhere"), None, "train", skip)
    assert "\n" not in str(caught.value)


def test_parquet_gives_images_as_they_are_stored(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"prompt": "a", "image": {"bytes": png(n), "path": "x.png"}} for n in range(40)]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert [row for _, row in read_file(tmp_path / "a.parquet", "data.path")] == rows


@pytest.mark.parametrize("skip", [None, 0, 1])
def test_a_set_with_image_features_is_not_decoded(skip: int | None, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    single, several = datasets.Image(), datasets.List(datasets.Image())
    part = {"type": datasets.Value("string"), "image": single}
    turn = {"role": datasets.Value("string"), "content": datasets.List(part)}
    features = {"image": single, "images": several, "messages": datasets.List(turn)}
    image = {"bytes": png(1), "path": None}
    turns = [{"role": "user", "content": [{"type": "image", "image": image}]}]
    row = {"image": image, "images": [image, image], "messages": turns}
    made = datasets.Dataset.from_list([row] * 3, features=datasets.Features(features))
    (tmp_path / "set").mkdir()
    made.to_parquet(tmp_path / "set" / "train.parquet")
    found = [row for _, row in read_hub(str(tmp_path / "set"), None, "train", skip)]
    assert found == [row] * (3 - (skip or 0))
