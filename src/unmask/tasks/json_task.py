"""Problems from people's own files: JSON, JSON Lines, Parquet, in the layouts of `tasks/layouts`.

Every given file is read when the task is built, so that a misspelt path stops a run before its first
step and not at its last evaluation. Problems are kept unchanged, repeats included, so that scores
compare with others on the same file. A record without a ground truth is refused, unless `task.reward` grades: a
reward of zero for want of an answer would be trained on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from unmask.configs.task import JsonTaskConfig
from unmask.data.examples import UNREAD, all_layouts, has_layout, layout_of, mapped
from unmask.data.record_files import read_file
from unmask.data.record_images import COLUMNS, TURNS, RecordImages, placed, with_open_parts
from unmask.tasks.code_problems import code_grader
from unmask.tasks.dataset import DEMONSTRATION, Problem, fit_problems, warn_of_left_out
from unmask.tasks.grader import Grader, math_grader, own_grader
from unmask.tasks.record import Record, record_from_json
from unmask.tasks.task import Task, prompt_from_text
from unmask.tasks.template import check_template, filled
from unmask.types import Message, Prompt, Split

LAYOUTS = "unmask.tasks.layouts"
EXAMPLE = 'question = "...", ground_truth_answer = "..."'


@dataclass(frozen=True, slots=True)
class ProblemFile:
    """The problems of a file, each with its name, and their layout."""

    layout: ModuleType
    problems: tuple[tuple[str, Problem], ...]


def build_json_task(config: JsonTaskConfig) -> Task:
    """Read the given files and build their task.

    Raises:
        ValueError: a template without a question, or a file that is missing, empty or wrong; names
            key, file and line.
    """
    if config.template is not None:
        check_template(config.template)
    names: tuple[Split, ...] = ("train", "validation", "test")
    paths: dict[Split, Path] = {n: path for n in names if (path := getattr(config, n)) is not None}
    files: dict[Split, ProblemFile] = {
        split: read_problems(config, path, f"task.{split}") for split, path in paths.items()
    }
    grader = own_grader(config) or _grader(config, files)
    splits = {split: _prompts(config, file, split, grader) for split, file in files.items()}

    def prompts(split: Split) -> Sequence[Prompt]:
        if split not in splits:
            raise ValueError(
                f"task.{split} is not given: name a file of problems"
                " (for evaluation while training, or set eval.split or eval.problems = 0)"
            )
        return splits[split][0]

    return Task(
        config.name,
        prompts,
        lambda prompt: prompt.reference.get(DEMONSTRATION),
        grader.grade,
        grader.close,
        answer=grader.answer,
        left_out=lambda split: splits[split][1] if split in splits else (),
        isolation=grader.isolation,
    )


def read_problems(config: JsonTaskConfig, path: Path, key: str) -> ProblemFile:
    """Read a file of problems.

    Args:
        config: layout, names of fields, and whether an own reward grades.
        path: the file.
        key: the config key that names it.

    Raises:
        ValueError: it cannot be read, is empty, or a record is of an unknown layout or lacks a field; names
            key, file and line.
    """
    name, problems = config.layout, list[tuple[str, Problem]]()
    for record in _records(config, path, key):
        try:
            name = name or layout_of(record.values, LAYOUTS, "task", EXAMPLE, config.fields)
            _check(record, name)
        except ValueError as error:
            raise ValueError(f"{record.place}: {error}") from error
        layout = all_layouts(LAYOUTS)[name]
        problem = _problem(record, layout, config.reward is None)
        if layout.IS_CODE and config.reward is None:
            _check_time_limit(record, layout.time_limit(record.values), config.sandbox.cpu_s)
        if config.reward is not None:
            # The prompt has the images; those of a whole file would not fit into memory.
            turns = (*problem.context, problem)
            held = {*COLUMNS, *(TURNS if any(turn.images for turn in turns) else ())}
            own = {name: value for name, value in record.values.items() if name not in held}
            problem = replace(problem, reference={**own, **problem.reference})
        problems.append((record.name, problem))
    if not problems or name is None:
        raise ValueError(f"{key} = {path}: the file holds no problems")
    return ProblemFile(all_layouts(LAYOUTS)[name], tuple(problems))


def _records(config: JsonTaskConfig, path: Path, key: str) -> Iterator[Record]:
    images = RecordImages(config.image_root or path.parent, "task.image_root")
    for place, value in read_file(path, key):
        record = record_from_json(place, value)
        try:
            yield Record(place, mapped(record.values, {**config.fields}, "task"), images)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error


def _problem(record: Record, layout: ModuleType, is_graded: bool) -> Problem:
    """Return the problem of a record, with its images in their places."""
    try:
        values, waiting = with_open_parts(record.values, record.images)
    except ValueError as error:
        raise ValueError(f"{record.place}: {error}") from error
    problem: Problem = layout.read(replace(record, values=values), is_graded)
    try:
        *context, last = placed(
            (*problem.context, Message("user", problem.question, problem.images)), waiting
        )
    except ValueError as error:
        raise ValueError(f"{record.place}: {error}") from error
    return replace(problem, question=last.content, context=tuple(context), images=last.images)


def _check(record: Record, name: str) -> None:
    """Refuse a record that is not of a layout, or that holds what the model would have to read."""
    if not has_layout(record.values, name, LAYOUTS):
        keys = all_layouts(LAYOUTS)[name].KEYS
        missing = next(key for key in keys if record.values.get(key) is None)
        raise ValueError(
            f"{missing!r} is missing: a record of the layout {name} has {', '.join(keys)}, this one has "
            f"{', '.join(map(repr, record.values)) or 'nothing'}; a file has one layout"
        )
    if unread := [key for key in UNREAD if record.values.get(key)]:
        raise ValueError(f"{unread[0]!r} is not read: remove the field or the record")


def _check_time_limit(record: Record, seconds: float, cpu_s: int) -> None:
    if seconds > cpu_s:
        raise record.error("test_time_limit", f"is above task.sandbox.cpu_s = {cpu_s}: raise that")


def _grader(config: JsonTaskConfig, files: Mapping[Split, ProblemFile]) -> Grader:
    """Build the grader that all files need."""
    kinds = {split: file.layout.IS_CODE for split, file in files.items()}
    if len({*kinds.values()}) > 1:
        found = ", ".join(
            f"task.{n} has {'programs' if k else 'answers'}" for n, k in kinds.items()
        )
        raise ValueError(f"{found}: one task has one grader; give each a run of its own")
    if any(kinds.values()):
        return code_grader(config)
    is_whole = any(file.layout.IS_WHOLE for file in files.values())
    extraction = config.extraction or ("stated" if is_whole else "boxed")
    return math_grader(config.verifier, extraction)


def _prompts(
    config: JsonTaskConfig, file: ProblemFile, split: Split, grader: Grader
) -> tuple[tuple[Prompt, ...], list[str]]:
    """Return the prompts of a file, and the names and reasons of the problems that are left out."""
    key = f"task.{split}"
    problems, left_out = fit_problems(file.problems, grader)
    if not problems:
        raise ValueError(f"{key}: all problems are left out: {'; '.join(left_out)}")
    warn_of_left_out(f"{key}: {{}} problems", left_out, len(problems))
    template = file.layout.TEMPLATE if config.template is None else config.template
    prompts = tuple(_prompt(config.name, template, problem) for problem in problems)
    grader.check(key, prompts)
    return prompts, left_out


def _prompt(task: str, template: str, problem: Problem) -> Prompt:
    reference: dict[str, Any] = {**problem.reference}
    if problem.demonstration is not None:
        reference[DEMONSTRATION] = problem.demonstration
    text = filled(template, problem.question, bool(problem.images))
    return prompt_from_text(task, text, reference, problem.context, problem.images)
