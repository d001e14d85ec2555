"""A file or directory is whole or absent, also when writing it fails half way."""

import json
import stat
from pathlib import Path

import pytest

from unmask.runs.files import (
    append_lines,
    atomic_directory,
    cut_unfinished_line,
    is_leftover,
    remove_leftovers,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_text_replaces_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "one")
    write_text(path, "zwei ä")
    assert path.read_text(encoding="utf-8") == "zwei ä"
    assert names(tmp_path) == ["a.txt"]


def test_file_has_ordinary_permissions(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "")
    (tmp_path / "b").touch()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"}
    assert len(modes) == 1


def test_failed_write_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert json.loads(path.read_text()) == {"a": 1}
    assert names(tmp_path) == ["a.json"]


def test_directory_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "model"
    with atomic_directory(path) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_text("1")
        assert not path.exists()
    assert (path / "sub" / "a").read_text() == "1"
    assert names(path.parent) == ["model"]


def test_directory_replaces_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for name in ("old", "newer"):
        with atomic_directory(path) as folder:
            (folder / name).touch()
    assert names(path) == ["newer"]
    assert names(tmp_path) == ["model"]


def test_failure_inside_leaves_the_older_directory(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with atomic_directory(path) as folder:
        (folder / "a").touch()
    with pytest.raises(RuntimeError, match="half way"), atomic_directory(path) as folder:
        (folder / "b").touch()
        raise RuntimeError("half way")
    assert names(path) == ["a"]
    assert names(tmp_path) == ["model"]


def test_only_names_of_our_own_making_are_leftovers(tmp_path: Path) -> None:
    ours = ("a.tmp-0a1b2c3d", "step-000002.old-4e5f6a7b", "b.json.tmp-00000000")
    theirs = (
        "a.tmp-notes",
        "my.old-thesis",
        ".tmp-0a1b2c3d",
        "a.old-0a1b2c3d.txt",
        "a.tmp-0A1B2C3D",
    )
    assert all(is_leftover(Path(name)) for name in ours)
    assert not any(is_leftover(Path(name)) for name in theirs)
    for name in (*ours, *theirs):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted((*theirs, "step-000002"))


def test_a_directory_without_leftovers_stays_as_it_is(tmp_path: Path) -> None:
    remove_leftovers(tmp_path / "absent")
    assert names(tmp_path) == []


def test_lines_are_appended_as_json(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    append_lines(path, [{"a": "ä\n"}])
    append_lines(path, [{"b": 1}, {"b": 2}])
    assert path.read_text(encoding="utf-8") == '{"a": "ä\\n"}\n{"b": 1}\n{"b": 2}\n'
    with pytest.raises(ValueError, match="JSON"):
        append_lines(path, [{"b": 3}, {"b": float("nan")}])
    assert path.read_text(encoding="utf-8").count("\n") == 3  # all of a call's lines, or none


@pytest.mark.parametrize(
    ("found", "kept"),
    [("", ""), ("a\n", "a\n"), ("a\nb\nc", "a\nb\n"), ("abc", ""), ("a\n\n", "a\n\n")],
)
def test_what_a_killed_writer_left_of_a_line_is_cut_off(
    found: str, kept: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(found)
    cut_unfinished_line(path)
    assert path.read_text() == kept
    cut_unfinished_line(tmp_path / "absent")
    assert names(tmp_path) == ["a.jsonl"]
