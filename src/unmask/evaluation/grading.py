"""Verdicts on an evaluation's responses: made once at its end, and again with a better grader.

Responses are read from the disk as text, so grading again loads no model. A grading is written whole
next to the earlier ones, which stay (`runs.gradings` describes the files); the last one counts. Several ranks
grade shares of the responses: a verdict depends on the problem and the text alone, unless a judge draws its
replies or a time limit ends a program.

Refused: a reward that is not one finite number, and a task whose problems differ from those that
were asked.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unmask import __version__
from unmask.configs.eval import EvalConfig
from unmask.configs.keys import to_toml
from unmask.configs.load import dump, flatten, load_config
from unmask.distributed.parts import on_main
from unmask.distributed.world import ALONE, World
from unmask.evaluation.rank_files import FAILURES
from unmask.evaluation.summary import outcome_of
from unmask.json_files import read_object, read_objects
from unmask.runs.directory import CONFIG, TRAJECTORIES, package_version
from unmask.runs.files import append_lines, atomic_directory, write_json
from unmask.runs.gradings import GRADER, GRADINGS, KEY_NAMES, VERDICTS, gradings
from unmask.runs.progress import Progress
from unmask.tasks.build import build_task
from unmask.tasks.task import Task
from unmask.types import Prompt, Score

GRADER_PACKAGES = ("latex2sympy2_extended", "reasoning-gym", "sympy")
CHUNK = 512
PROTOCOL = "protocol.json"
# The key of a response as fields of a record.
Name = dict[str, Any]
FAILED: dict[str, Any] = {"outcome": "failed", "reward": 0.0, "parts": {}, "answer": ""}


def grade_run(
    run: Path,
    config: EvalConfig,
    task: Task,
    problems: Sequence[Prompt],
    world: World = ALONE,
) -> Path:
    """Grade every response of a run, and return the directory of the new grading.

    Args:
        run: directory that holds the responses.
        config: its `task` is written next to the verdicts.
        task: holds the grader.
        problems: the problems that were asked, with their references.
        world: the ranks, each of which grades its share of the responses.

    Raises:
        ValueError: a reward is not one finite number; names the problem.
        RuntimeError: the grader itself cannot run.
    """
    verdicts = _verdicts(run, task, problems, world)
    return on_main(world, "verdicts", lambda: _write_grading(run, config, task, verdicts))


def _write_grading(
    run: Path, config: EvalConfig, task: Task, verdicts: Sequence[Mapping[str, Any]]
) -> Path:
    earlier = gradings(run)
    place = run / GRADINGS / str(int(earlier[-1].name) + 1 if earlier else 1)
    found = {name: package_version(name) for name in GRADER_PACKAGES}
    versions = {name: version for name, version in found.items() if version}
    grader = {
        "task": dump(config)["task"],
        "isolation": task.isolation,
        "versions": {"unmask": __version__, **versions},
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with atomic_directory(place) as directory:
        write_json(directory / GRADER, grader)
        append_lines(directory / VERDICTS, verdicts)
    return place


def rescore(run: Path, overrides: Sequence[str]) -> Path:
    """Grade the responses of a finished evaluation again, and return the directory of the new grading.

    Args:
        run: the evaluation's directory.
        overrides: `task.key=value` words that override its configuration.

    Raises:
        ValueError: the directory is not a finished evaluation, an override is not of `task`, or the
            task's problems differ from those that were asked.
    """
    for override in overrides:
        if not override.startswith("task."):
            raise ValueError(f"{override}: rescore generates nothing, so only task.* can change")
    if not (run / PROTOCOL).is_file():
        raise ValueError(f"{run}: is not an evaluation: {PROTOCOL} is missing")
    if not gradings(run):
        raise ValueError(f"{run}: is not finished; resume it with unmask eval ... --resume")
    stored = [f"{name}={to_toml(value)}" for name, value in flatten(read_object(run / CONFIG))]
    config = load_config(EvalConfig, [], [*stored, *overrides])[0]
    with closing(build_task(config.task)) as task:
        problems = problems_of(config, task)
        if digest(problems) != read_object(run / PROTOCOL)["problems_sha256"]:
            raise ValueError(
                f"{run}: the task's problems are not those that were asked; grade with the same "
                "files and settings"
            )
        return grade_run(run, config, task, problems)


def problems_of(config: EvalConfig, task: Task) -> Sequence[Prompt]:
    """Return the problems that an evaluation asks."""
    return task.prompts(config.split)[: config.problems]


def grade_texts(task: Task, items: Sequence[tuple[Prompt, str]]) -> list[dict[str, Any]]:
    """Return the verdict on each (problem, response): outcome, reward, parts and extracted answer.

    Raises:
        ValueError: a reward is not one finite number; names the problem.
        RuntimeError: the grader itself cannot run.
    """
    scores = task.grade(items)
    return [
        _verdict(problem, task.answer(text), score)
        for (problem, text), score in zip(items, scores, strict=True)
    ]


def digest(problems: Sequence[Prompt]) -> str:
    """Return a hash of the problems' messages, in order."""
    texts = [[[m.role, m.content] for m in problem.messages] for problem in problems]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def _verdict(problem: Prompt, answer: str, score: Score) -> dict[str, Any]:
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


def _verdicts(
    run: Path, task: Task, problems: Sequence[Prompt], world: World
) -> list[dict[str, Any]]:
    """Return the verdicts in the order of the responses, and after them those of failures."""
    asked, failed = on_main(world, "responses", lambda: _asked(run))
    found: list[dict[str, Any]] = []
    with Progress(len(asked), "grade") as bar:
        for start in range(0, len(asked), CHUNK * world.size):
            chunk = asked[start : start + CHUNK * world.size]
            with world.together("grading"):
                pairs = [(problems[name["problem"]], text) for name, text in world.share(chunk)]
                own = grade_texts(task, pairs)
            found += world.gather_shares(own)
            bar.advance(len(chunk))
    verdicts = [*found, *([FAILED] * len(failed))]
    names = [*(name for name, _ in asked), *failed]
    return [name | verdict for name, verdict in zip(names, verdicts, strict=True)]


def _asked(run: Path) -> tuple[list[tuple[Name, str]], list[Name]]:
    """Return name and text of every response, and the names of failures."""
    asked = [(_name(record), record["text"]) for record in read_objects(run / TRAJECTORIES)]
    return asked, [_name(record) for record in read_objects(run / FAILURES)]


def _name(record: Mapping[str, Any]) -> Name:
    return {name: record[name] for name in KEY_NAMES}
