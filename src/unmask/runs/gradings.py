"""Verdicts: what a grader said of an evaluation's responses, kept apart from the responses.

    gradings/1/grader.json      the task's settings and the versions that judged
    gradings/1/verdicts.jsonl   one line per response: outcome, reward, extracted answer
    gradings/1/summary.json     what they amount to

A response is written once and may be judged again, by a better grader; then there is a `gradings/2`,
and the first one stays as it was. A grading is whole or absent. Whoever reads responses lays the
verdicts of the last grading over them here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unmask.json_files import read_objects

GRADINGS, VERDICTS, GRADER = "gradings", "verdicts.jsonl", "grader.json"

# Name of the sampling, number of the problem, number of the response to it.
Key = tuple[str, int, int]
Record = Mapping[str, Any]


def key_of(record: Record) -> Key:
    """Return which response of an evaluation a record is about."""
    return record["variation"], record["problem"], record["sample"]


def gradings(run: Path) -> list[Path]:
    """Return the gradings of a run, oldest first; a training run has none."""
    found = [path for path in (run / GRADINGS).glob("*") if path.name.isdecimal()]
    return sorted(found, key=lambda path: int(path.name))


def read_verdicts(run: Path) -> dict[Key, Record]:
    """Return the verdicts of the last grading; none where there is no grading.

    Raises:
        ValueError: a line is broken; names file and line.
    """
    last = gradings(run)[-1:]
    return {key_of(verdict): verdict for path in last for verdict in read_objects(path / VERDICTS)}


def judged(record: Record, verdicts: Mapping[Key, Record]) -> Record:
    """Return the record of a response with what its verdict says laid over it, if it has one."""
    if "variation" not in record or key_of(record) not in verdicts:
        return record
    verdict = verdicts[key_of(record)]
    return {**record, "reward": verdict["reward"], "parts": verdict["parts"]}
