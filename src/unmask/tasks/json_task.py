"""Problems from JSON or JSON Lines files with `question` and `ground_truth_answer`, the published format.

Every given file is read when the task is built, so that a misspelt path stops a run before its first
step and not at its last evaluation. Problems are kept unchanged, repeats included, so that scores
compare with others on the same file.
"""

from collections.abc import Sequence
from pathlib import Path

from unmask.configs.task import JsonTaskConfig
from unmask.json_files import read_records
from unmask.tasks.grader import math_grader, own_grader
from unmask.tasks.record import record_from_json
from unmask.tasks.task import Task, prompt_from_text
from unmask.tasks.template import check_template
from unmask.types import Prompt, Split


def build_json_task(config: JsonTaskConfig) -> Task:
    """Read the given files and build their task.

    Raises:
        ValueError: a template without a question, or a file that is missing, empty or wrong; names
            key, file and line.
    """
    check_template(config.template)
    names: tuple[Split, ...] = ("train", "validation", "test")
    paths: dict[Split, Path] = {n: path for n in names if (path := getattr(config, n)) is not None}
    splits = {n: _read_prompts(config, path, f"task.{n}") for n, path in paths.items()}

    def prompts(split: Split) -> Sequence[Prompt]:
        if split not in splits:
            raise ValueError(
                f"task.{split} is not given: name a file of problems"
                " (for evaluation while training, or set eval.split or eval.problems = 0)"
            )
        return splits[split]

    grader = own_grader(config.reward) or math_grader(config.verifier, config.extraction)
    for split, read in splits.items():
        grader.check(f"task.{split}", read)
    return Task(config.name, prompts, lambda prompt: None, grader.grade, grader.close)


def _read_prompts(config: JsonTaskConfig, path: Path, key: str) -> tuple[Prompt, ...]:
    prompts: list[Prompt] = []
    for place, value in read_records(path, key):
        record = record_from_json(place, value)
        text = config.template.format(question=record.text("question"))
        reference = {"answer": record.text("ground_truth_answer")}
        prompts.append(prompt_from_text(config.name, text, reference))
    if not prompts:
        raise ValueError(f"{key} = {path}: the file holds no problems")
    return tuple(prompts)
