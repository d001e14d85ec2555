"""Problems from JSON or JSON Lines files with `question` and `ground_truth_answer`, the published format.

Every given file is read when the task is built, so that a misspelt path stops a run before its first
step and not at its last evaluation. Problems are kept as they stand, repeats included: a test set is
what its authors say it is.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unmask.configs.task import JsonTaskConfig
from unmask.json_records import read_records
from unmask.rewards.custom import load_reward
from unmask.rewards.math import FACTORY
from unmask.rewards.workers import VerifierPool, score_from_verdict
from unmask.tasks.task import Task, prompt_from_text
from unmask.types import Prompt, Score, Split


def build_json_task(config: JsonTaskConfig) -> Task:
    """Read the given files and make their task.

    Raises:
        ValueError: a template without a question, or a file that is missing, empty or wrong; names
            key, file and line.
    """
    _check_template(config.template)
    paths: dict[Split, Path | None] = {
        "train": config.train,
        "validation": config.validation,
        "test": config.test,
    }
    splits = {
        split: _read_prompts(config, path, f"task.{split}")
        for split, path in paths.items()
        if path is not None
    }

    def prompts(split: Split) -> Sequence[Prompt]:
        if split not in splits:
            raise ValueError(
                f"task.{split} is not given: name a file of problems"
                " (for evaluation while training, or set eval.split or eval.problems = 0)"
            )
        return splits[split]

    if config.reward is not None:
        reward = load_reward(config.reward)
        return Task(
            config.name,
            prompts,
            demonstration=lambda prompt: None,
            grade=lambda items: [Score(reward(prompt, response)) for prompt, response in items],
        )

    pool = VerifierPool(FACTORY, {}, config.verifier.workers, config.verifier.time_limit_s)

    def grade(items: Sequence[tuple[Prompt, str]]) -> list[Score]:
        verdicts = pool.judge(
            [{"response": text, "gold": prompt.reference["answer"]} for prompt, text in items]
        )
        return [score_from_verdict(verdict, exact=True) for verdict in verdicts]

    return Task(config.name, prompts, lambda prompt: None, grade, pool.close)


def _check_template(template: str) -> None:
    marker = "{the question}"
    try:
        has_question = marker in template.format(question=marker)
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(
            f"task.template = {template!r}: only {{question}} can be filled in ({error!r}); "
            "write a brace that stands for itself twice"
        ) from error
    if not has_question:
        raise ValueError(f"task.template = {template!r}: {{question}} is missing")


def _read_prompts(config: JsonTaskConfig, path: Path, key: str) -> tuple[Prompt, ...]:
    prompts: list[Prompt] = []
    for place, record in read_records(path, key):
        # Only the template is a format; braces in a question stand for themselves.
        text = config.template.format(question=_field(record, "question", place))
        reference = {"answer": _field(record, "ground_truth_answer", place)}
        prompts.append(prompt_from_text(config.name, text, reference))
    if not prompts:
        raise ValueError(f"{key} = {path}: the file holds no problem")
    return tuple(prompts)


def _field(record: Any, name: str, place: str) -> str:
    if not isinstance(record, dict):
        raise ValueError(f"{place}: expected an object, found {type(record).__name__}")
    value = record.get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number or (isinstance(value, str) and value.strip()):
        return str(value)
    present = ", ".join(record) or "nothing"
    raise ValueError(
        f"{place}: {name!r} must be a text or a number, found {value!r} (the record has: {present})"
    )
