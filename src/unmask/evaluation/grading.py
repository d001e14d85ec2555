"""Verdicts on an evaluation's responses: made once at its end, and again whenever the grader is better.

What was written is read from the disk, as text, so judging it again loads no model. A grading is written
whole beside the earlier ones, which stay (`runs.gradings` has the files); the last one counts.

Refused: a reward that is no single finite number, and a task whose problems are no longer those that
were asked.
"""

import hashlib
import importlib.metadata
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from unmask import __version__
from unmask.configs.eval import EvalConfig
from unmask.configs.keys import to_toml
from unmask.configs.load import dump, flatten, load_config
from unmask.evaluation.responses import FAILURES
from unmask.evaluation.summary import outcome_of
from unmask.json_files import read_object
from unmask.runs.directory import CONFIG, TRAJECTORIES
from unmask.runs.files import append_lines, atomic_directory, write_json
from unmask.runs.gradings import GRADER, GRADINGS, VERDICTS, gradings
from unmask.runs.history import read_objects
from unmask.runs.progress import Progress
from unmask.tasks.build import build_task
from unmask.tasks.task import Task
from unmask.types import Prompt, Score

JUDGES = ("latex2sympy2_extended", "reasoning-gym", "sympy")
CHUNK = 512
PROTOCOL = "protocol.json"

Record = Mapping[str, Any]


def grade_run(run: Path, config: EvalConfig, task: Task, problems: Sequence[Prompt]) -> Path:
    """Judge every response of a run, and return the directory of the new grading.

    Args:
        run: where the responses are.
        config: whose `task` is written beside the verdicts.
        task: judges.
        problems: what was asked, with the references.

    Raises:
        ValueError: a reward is not one finite number; names the problem.
        RuntimeError: the grader itself cannot run.
    """
    earlier = gradings(run)
    place = run / GRADINGS / str(int(earlier[-1].name) + 1 if earlier else 1)
    with atomic_directory(place) as directory:
        write_json(directory / GRADER, _grader(config, task))
        append_lines(directory / VERDICTS, _verdicts(run, task, problems))
    return place


def rescore(run: Path, overrides: Sequence[str]) -> Path:
    """Judge the responses of a finished evaluation again, and return the directory of the new grading.

    Args:
        run: the evaluation's directory.
        overrides: `task.key=value` words laid over its configuration.

    Raises:
        ValueError: it is no evaluation, an override is not of `task`, or the task's problems are not
            those that were asked.
    """
    config = _config(run, overrides)
    with closing(build_task(config.task)) as task:
        problems = problems_of(config, task)
        if digest(problems) != read_object(run / PROTOCOL)["problems_sha256"]:
            raise ValueError(
                f"{run}: the task's problems are not those that were asked; judge with the same "
                "files and settings"
            )
        return grade_run(run, config, task, problems)


def problems_of(config: EvalConfig, task: Task) -> Sequence[Prompt]:
    """Return the problems an evaluation asks."""
    return task.prompts(config.split)[: config.problems]


def verdict_record(problem: Prompt, answer: str, score: Score) -> dict[str, Any]:
    """Return the record of one verdict.

    Raises:
        ValueError: the reward is not one finite number; names the problem.
    """
    if isinstance(score.reward, Sequence) or not math.isfinite(score.reward):
        raise ValueError(
            f"the reward of a response to prompt {problem.uid} of task {problem.task!r} is "
            f"{score.reward}: an evaluation needs one finite number"
        )
    return {
        "outcome": outcome_of(score.reward, score.parts),
        "reward": float(score.reward),
        "parts": dict(score.parts),
        "answer": answer,
    }


def digest(problems: Sequence[Prompt]) -> str:
    """Return a hash of what was asked, in its order."""
    texts = [[[m.role, m.content] for m in problem.messages] for problem in problems]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def _config(run: Path, overrides: Sequence[str]) -> EvalConfig:
    for override in overrides:
        if not override.startswith("task."):
            raise ValueError(f"{override}: only task.* can be changed where nothing is generated")
    if not (run / PROTOCOL).is_file():
        raise ValueError(f"{run}: is no evaluation: {PROTOCOL} is missing")
    if not gradings(run):
        raise ValueError(f"{run}: is not finished; go on with it by unmask eval ... --resume")
    stored = flatten(read_object(run / CONFIG))
    words = [f"{name}={to_toml(value)}" for name, value in stored]
    return load_config(EvalConfig, [], [*words, *overrides])[0]


def _grader(config: EvalConfig, task: Task) -> dict[str, Any]:
    return {
        "task": dump(config)["task"],
        "isolation": task.isolation,
        "versions": {
            "unmask": __version__,
            **{
                name: importlib.metadata.version(name)
                for name in JUDGES
                if find_spec(name.replace("-", "_"))
            },
        },
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _verdicts(run: Path, task: Task, problems: Sequence[Prompt]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    items = [
        (_name(r), problems[r["problem"]], r["text"]) for r in read_objects(run / TRAJECTORIES)
    ]
    with Progress(len(items), "grade") as bar:
        for start in range(0, len(items), CHUNK):
            chunk = items[start : start + CHUNK]
            scores = task.grade([(problem, text) for _, problem, text in chunk])
            for (name, problem, text), score in zip(chunk, scores, strict=True):
                found.append({**name, **verdict_record(problem, task.answer(text), score)})
            bar.advance(len(chunk))
    return [*found, *_failures(run)]


def _failures(run: Path) -> Iterator[dict[str, Any]]:
    for record in read_objects(run / FAILURES):
        yield {**_name(record), "outcome": "failed", "reward": 0.0, "parts": {}, "answer": ""}


def _name(record: Record) -> dict[str, Any]:
    return {name: record[name] for name in ("variation", "problem", "sample")}
