"""Records come one by one with the place of each, from either form of file."""

import gzip
import json
from codecs import BOM_UTF8
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.json_files import parse_json, read_object, read_objects, read_records

RECORDS = [{"a": 1}, {"a": "two\u2028lines"}]


def test_a_list_and_its_lines_hold_the_same_records(tmp_path: Path) -> None:
    listed, lines = tmp_path / "list.json", tmp_path / "lines.jsonl"
    listed.write_text(json.dumps(RECORDS, indent=2), encoding="utf-8")
    text = "\n\n".join(json.dumps(record, ensure_ascii=False) for record in RECORDS)
    lines.write_text(text, encoding="utf-8")
    assert [record for _, record in read_records(listed, "key")] == RECORDS
    assert [record for _, record in read_records(lines, "key")] == RECORDS
    assert [place for place, _ in read_records(lines, "key")] == [
        f"key = {lines}, line 1",
        f"key = {lines}, line 3",
    ]


@pytest.mark.parametrize(
    ("text", "words"), [("{", "line 1: not JSON"), ("[{]", "not JSON"), (None, "no such file")]
)
def test_what_cannot_be_read_is_named(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "file"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=words) as caught:
        list(read_records(path, "task.train"))
    assert f"task.train = {path}" in str(caught.value)


def test_a_compressed_file_holds_what_it_was_made_from(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, RECORDS)).encode()))
    assert [record for _, record in read_records(path, "key")] == RECORDS
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(ValueError, match="cannot be read"):
        list(read_records(path, "key"))


@pytest.mark.parametrize("name", ["list.json", "lines.jsonl", "lines.jsonl.gz"])
def test_a_byte_order_mark_is_skipped(tmp_path: Path, name: str) -> None:
    parts = [json.dumps(record).encode() for record in RECORDS]
    # Files that were joined have one at the start of a later line, too.
    lines = b"\r\n".join(BOM_UTF8 + part for part in parts)
    text = BOM_UTF8 + b"\n [" + b",".join(parts) + b"]" if name == "list.json" else lines
    path = tmp_path / name
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    assert [record for _, record in read_records(path, "key")] == RECORDS


DEEP = [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 102 + b"]" * 102, b'[{"a":' * 300]


@pytest.mark.parametrize("text", DEEP)
def test_nesting_beyond_the_limit_is_named(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(b'{"a": 1}\n{"b": ' + text)
    with pytest.raises(
        ValueError, match=rf"key = {path}, line 2: (nested deeper than 100|not JSON)"
    ):
        list(read_records(path, "key"))
    path.write_bytes(text)
    with pytest.raises(ValueError, match=rf"key = {path}.*: (nested deeper than 100|not JSON)"):
        list(read_records(path, "key"))
    with pytest.raises(ValueError, match=rf"^{path}: (nested deeper than 100|not JSON)"):
        read_object(path)


def test_nesting_up_to_the_limit_is_read(tmp_path: Path) -> None:
    value: list[object] = []
    for _ in range(99):
        value = [value]
    assert parse_json(json.dumps(value), "here") == value
    with pytest.raises(ValueError, match="here: nested deeper than 100"):
        parse_json(json.dumps([[value]]), "here")


@pytest.mark.parametrize("text", [b'{"a": %s}' % (b"9" * 5000), b"\x00", b"{a"])
def test_what_is_no_json_is_named(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\n" + text)
    with pytest.raises(ValueError, match=rf"key = {path}, line 2: not JSON"):
        list(read_records(path, "key"))


@pytest.mark.parametrize("name", ["lines.jsonl", "lines.jsonl.gz"])
@pytest.mark.parametrize("text", [b'{"a": "%s"}', b'["%s"]'])
def test_a_line_or_a_list_has_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: bytes
) -> None:
    monkeypatch.setattr("unmask.json_files.MAX_BYTES", 1000)
    path = tmp_path / name
    for size, is_read in ((900, True), (2000, False)):
        written = text % (b"x" * size)
        path.write_bytes(gzip.compress(written) if name.endswith(".gz") else written)
        if is_read:
            assert len(list(read_records(path, "key"))) == 1
        else:
            with pytest.raises(ValueError, match=rf"{path}.*: longer than 1000 bytes"):
                list(read_records(path, "key"))


def test_a_key_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text('{"a": 1}\n{"b": {"c": 1, "c": 2}}\n')
    with pytest.raises(ValueError, match=r"line 2: not JSON: the key 'c' occurs twice"):
        list(read_records(path, "key"))
    with pytest.raises(ValueError, match=r"line 2: not JSON: the key 'c' occurs twice"):
        list(read_objects(path))


def test_an_unfinished_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    assert list(read_objects(path)) == []
    path.write_text('{"a": 1}\n{"a": 2')
    assert list(read_objects(path)) == [{"a": 1}]


def test_an_object_is_an_object(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(BOM_UTF8 + b'{"a": 1}')
    assert read_object(path) == {"a": 1}
    path.write_text("[1]")
    with pytest.raises(ValueError, match=rf"{path}: expected a JSON object, found list"):
        read_object(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    records=st.lists(st.dictionaries(st.text(), JSON), min_size=1),
    mark=st.sampled_from([b"", BOM_UTF8]),
)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, records: list[object], mark: bytes
) -> None:
    folder = tmp_path_factory.mktemp("records")
    listed, lines = folder / "list.json", folder / "lines.jsonl"
    listed.write_bytes(mark + json.dumps(records).encode())
    lines.write_bytes(b"".join(mark + json.dumps(record).encode() + b"\n" for record in records))
    for path in (listed, lines):
        assert [record for _, record in read_records(path, "key")] == records


@given(text=st.binary() | st.text(alphabet='[]{}":,1e \n').map(str.encode))
def test_any_bytes_are_read_or_refused_with_the_name_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, text: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "file"
    path.write_bytes(text)
    try:
        assert all(str(path) in place for place, _ in read_records(path, "key"))
    except ValueError as error:
        assert str(error).startswith(f"key = {path}")
