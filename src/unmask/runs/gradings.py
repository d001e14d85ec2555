"""Gradings of an evaluation's responses, stored apart from the responses.

    gradings/1/grader.json      the task's settings and the versions of the grader
    gradings/1/verdicts.jsonl   one line per response: outcome, reward, extracted answer
    gradings/1/summary.json     the summary under this grading

A response is written once and may be graded again, by a better grader; that adds `gradings/2`, and the
first one stays unchanged. A grading is whole or absent. Readers of responses use the last grading.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unmask.json_files import read_objects

GRADINGS, VERDICTS, GRADER = "gradings", "verdicts.jsonl", "grader.json"

# Name of the sampling, number of the problem, number of the response to it.
Key = tuple[str, int, int]
KEY_NAMES = ("variation", "problem", "sample")
Record = Mapping[str, Any]


def key_of(record: Record) -> Key:
    """Return the key of the response that a record belongs to."""
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


def verdicts_by_problem(run: Path) -> dict[str, list[list[Record]]]:
    """Return the verdicts of the last grading by sampling and problem, samples in order."""
    found: dict[str, dict[int, list[Record]]] = {}
    for (variation, problem, _), verdict in sorted(read_verdicts(run).items()):
        found.setdefault(variation, {}).setdefault(problem, []).append(verdict)
    return {variation: list(problems.values()) for variation, problems in found.items()}


def with_verdict(record: Record, verdicts: Mapping[Key, Record]) -> Record:
    """Return the record of a response with the reward and parts of its verdict, if it has one."""
    if "variation" not in record or key_of(record) not in verdicts:
        return record
    verdict = verdicts[key_of(record)]
    return {**record, "reward": verdict["reward"], "parts": verdict["parts"]}
