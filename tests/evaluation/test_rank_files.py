"""Files of ranks: what is written anywhere counts, and ends in the files of one process."""

import json
from pathlib import Path

import pytest

from unmask.evaluation.rank_files import FAILURES, file_of_rank, keys_there, merge
from unmask.runs.directory import TRAJECTORIES

KEYS = [("a", problem, 0) for problem in range(4)]
ORDER = {key: place for place, key in enumerate(KEYS)}


def line(place: int, text: str = "é") -> str:
    name, problem, sample = KEYS[place]
    record = {"variation": name, "problem": problem, "sample": sample, "text": text}
    return json.dumps(record, ensure_ascii=False) + "\n"


def test_files_are_merged_in_the_order_of_the_plan(tmp_path: Path) -> None:
    path, failures = tmp_path / TRAJECTORIES, tmp_path / FAILURES
    path.write_text(line(3) + line(1))
    file_of_rank(path, 2).write_text(line(0))
    file_of_rank(failures, 1).write_text(line(2, "broken"))
    assert keys_there(tmp_path) == {*KEYS}
    merge(tmp_path, ORDER, 3)
    assert path.read_text() == line(0) + line(1) + line(3)
    assert failures.read_text() == line(2, "broken")
    assert {p.name for p in tmp_path.iterdir()} == {TRAJECTORIES, FAILURES}


def test_a_merge_that_was_killed_before_it_removed_files_is_repeated(tmp_path: Path) -> None:
    path = tmp_path / TRAJECTORIES
    path.write_text("".join(map(line, range(4))))
    file_of_rank(path, 1).write_text(line(1, "again") + line(3))
    merge(tmp_path, ORDER, 1)
    assert path.read_text() == "".join(map(line, range(4)))
    assert not file_of_rank(path, 1).exists()


def test_one_process_leaves_its_own_file_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / TRAJECTORIES
    path.write_text(line(1) + line(0))
    merge(tmp_path, ORDER, 1)
    assert path.read_text() == line(1) + line(0)


def test_unfinished_lines_do_not_count(tmp_path: Path) -> None:
    path = file_of_rank(tmp_path / TRAJECTORIES, 5)
    path.write_text(line(0) + line(1)[:-1])
    assert keys_there(tmp_path) == {KEYS[0]}
    assert path.read_text() == line(0)


def test_a_directory_that_is_not_shared_is_named_and_nothing_is_removed(tmp_path: Path) -> None:
    path = tmp_path / TRAJECTORIES
    path.write_text(line(0))
    file_of_rank(path, 1).write_text(line(1))
    with pytest.raises(OSError, match="2 of 4 responses, which other ranks have written"):
        merge(tmp_path, ORDER, 3)
    assert path.read_text() == line(0) and file_of_rank(path, 1).read_text() == line(1)
