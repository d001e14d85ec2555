"""Datasets of the `reasoning_gym` package, by name.

A prompt's reference is the generator's entry, which the package's own verifier reads in a worker
process (`rewards.reasoning_gym`). Problems are drawn once; repeats of a prompt are dropped, so a
split may hold fewer prompts than its share of `size`. Refused: a dataset whose entries JSON cannot
carry to the worker without changing a score, one whose verifier gives junk full reward (it is probed, in the
worker, when the task is built), and arguments its generator refuses.
"""

import difflib
import json
import pkgutil
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from unmask.configs.task import ReasoningGymConfig
from unmask.rewards.reasoning_gym import FACTORY, paid_junk, probes
from unmask.sandbox.verifier_pool import VerifierPool, score_from_verdict
from unmask.tasks import wordings
from unmask.tasks.grader import Grader, own_grader
from unmask.tasks.task import Task, prompt_from_text, prompts_of_splits, split_from_text
from unmask.tasks.wording import VERBATIM, Entry, Wording
from unmask.types import Prompt, Score, Split

NUM_PROBED = 5
# Data sets with their arguments whose verifier refused junk in this process: a run builds its task several
# times, and a worker takes more than a second to start.
_probed: set[str] = set()


def build_reasoning_gym_task(config: ReasoningGymConfig) -> Task:
    """Build the task of one data set; its problems are drawn at the first call of `prompts`.

    Raises:
        ValueError: unknown dataset, arguments it refuses, no compact wording, entries that JSON
            cannot carry, or a verifier that gives junk a full score.
    """
    dataset = _create_dataset(config)
    wording = compact_wording(config.name) if config.compact else VERBATIM
    grader = own_grader(config) or _package_grader(config, dataset, wording)
    return Task(
        config.name,
        prompts_of_splits(config, lambda: _draw_splits(config, dataset, wording)),
        lambda prompt: wording.demonstration(prompt.reference),
        grader.grade,
        grader.close,
        wording.alphabet,
        wording.answer,
    )


def compact_wording(name: str) -> Wording:
    """Return the compact wording of a data set.

    Raises:
        ValueError: it has none; names those that have one.
    """
    names = _compact_names()
    if name not in names:
        raise ValueError(
            f"task.compact = true: {name!r} has no compact wording; {', '.join(names)} have one; "
            "set task.compact = false"
        )
    return import_module(f"{wordings.__name__}.{name}").WORDING


def _compact_names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(wordings.__path__))


def _package_grader(config: ReasoningGymConfig, dataset: Any, wording: Wording) -> Grader:
    args = {"name": config.name, "args": _generator_args(config)}
    pool = VerifierPool(FACTORY, args, config.verifier.workers, config.verifier.time_limit_s)
    key = json.dumps(args, sort_keys=True)
    if not config.allow_lenient and key not in _probed:
        try:
            _check_pays_no_junk(config, dataset, pool)
        except BaseException:
            pool.close()
            raise
        _probed.add(key)
    exact = config.exact
    if exact is None:  # a wrong sum, sudoku or expression has no partial score by default
        exact = config.name == "sudoku" or config.name in _compact_names()

    def grade(items: Sequence[tuple[Prompt, str]]) -> list[Score]:
        verdicts = pool.grade(
            [{"entry": p.reference, "answer": wording.answer(response)} for p, response in items]
        )
        return [score_from_verdict(verdict, exact) for verdict in verdicts]

    return Grader(grade, pool.close)


def _check_pays_no_junk(config: ReasoningGymConfig, dataset: Any, pool: VerifierPool) -> None:
    items = probes(_draw(config, dataset, index) for index in range(NUM_PROBED))
    paid = paid_junk(items, (verdict.score for verdict in pool.grade(items)))
    if paid is not None:
        raise ValueError(
            f"task.name = {config.name!r}: its verifier pays the answer {paid['answer'][:100]!r} in full "
            f"where {paid['entry']['answer']!r} is right, so training on it would teach that; give "
            "task.reward, or use it as it is by task.allow_lenient = true"
        )


def _create_dataset(config: ReasoningGymConfig) -> Any:
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ModuleNotFoundError as error:
        if error.name != "reasoning_gym":
            raise
        raise ValueError(
            'task.kind = "reasoning_gym" needs a package that is not installed: '
            "pip install 'unmask[puzzles]'"
        ) from error

    if config.name not in DATASETS:
        near = difflib.get_close_matches(config.name, DATASETS, n=3) or sorted(DATASETS)
        raise ValueError(
            f"task.name = {config.name!r}: reasoning_gym has no such dataset; near it: {', '.join(near)}"
        )
    for key in config.args.keys() & {"size", "seed"}:
        raise ValueError(f"task.args has {key!r}: set task.{key} instead")
    try:
        dataset: Any = reasoning_gym.create_dataset(config.name, **_generator_args(config))
    except Exception as error:  # each generator raises its own
        raise ValueError(
            f"task.args = {config.args}: {config.name} refuses them: {error}"
        ) from error
    entry = _draw(config, dataset, 0)
    gold, carried = entry["answer"], json.loads(json.dumps(entry))
    if dataset.score_answer(gold, carried) != dataset.score_answer(gold, entry):
        raise ValueError(
            f"task.name = {config.name!r}: its verifier scores an entry differently after a round trip "
            "through JSON; it cannot run in a worker process"
        )
    return dataset


def _generator_args(config: ReasoningGymConfig) -> dict[str, Any]:
    return {**config.args, "size": config.size, "seed": config.seed}


def _draw_splits(
    config: ReasoningGymConfig, dataset: Any, wording: Wording
) -> dict[Split, list[Prompt]]:
    distinct: dict[str, Entry] = {}
    for index in range(config.size):
        entry = _draw(config, dataset, index)
        distinct.setdefault(wording.question(entry), entry)
    splits: dict[Split, list[Prompt]] = {"train": [], "validation": [], "test": []}
    for text, entry in distinct.items():
        split = split_from_text(text, config.validation_share, config.test_share)
        splits[split].append(prompt_from_text(config.name, text, entry))
    return splits


def _draw(config: ReasoningGymConfig, dataset: Any, index: int) -> Entry:
    try:
        return dataset[index]
    except ValueError as error:
        raise ValueError(
            f"task.args = {config.args}: {config.name} finds no problem {index} "
            f"with task.seed = {config.seed}: {error}"
        ) from error
