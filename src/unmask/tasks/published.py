"""Published data sets as tasks: `kind = "dataset"`.

Problems are read when a split is first asked for, and kept as they stand, repeats included: a test
set is what its authors say it is. Test problems are never trained on. Where no validation split was
published, a share of the training problems is held out by a hash of the question, so that the same
problem is held out whatever the template, the seed and the file it came from.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import assert_never

from unmask.configs.task import DatasetName, DatasetTaskConfig
from unmask.tasks import (
    aime24,
    aime25,
    gsm8k,
    humaneval,
    livebench_coding,
    livebench_math,
    livecodebench,
    math500,
    math_train,
    mbpp,
)
from unmask.tasks.dataset import Dataset, Problem
from unmask.tasks.grader import own_grader
from unmask.tasks.sources import check_path, read_split
from unmask.tasks.task import Task, prompt_from_text, split_from_text
from unmask.tasks.template import check_template, fill
from unmask.types import Prompt, Split

# Where a prompt keeps what SFT imitates: beside what the grader needs, and like it never shown.
DEMONSTRATION = "demonstration"


def dataset_by_name(name: DatasetName) -> Dataset:  # noqa: C901 - two lines per data set
    """Return what is known of a data set."""
    match name:
        case "gsm8k":
            return gsm8k.DATASET
        case "math500":
            return math500.DATASET
        case "math_train":
            return math_train.DATASET
        case "aime24":
            return aime24.DATASET
        case "aime25":
            return aime25.DATASET
        case "livebench_math":
            return livebench_math.DATASET
        case "livebench_coding":
            return livebench_coding.DATASET
        case "humaneval":
            return humaneval.DATASET
        case "mbpp":
            return mbpp.DATASET
        case "livecodebench":
            return livecodebench.DATASET
        case _:
            assert_never(name)


def build_dataset_task(config: DatasetTaskConfig) -> Task:
    """Make the task of a published data set; its problems are read at the first call of `prompts`.

    Raises:
        ValueError: a path where nothing is, a template without a question, or an own reward that
            is not there.
    """
    dataset = dataset_by_name(config.name)
    if config.path is not None:
        check_path(config.path)
    template = dataset.template if config.template is None else config.template
    check_template(template)
    grader = own_grader(config.reward) or dataset.build_grader(config)

    @cache
    def prompts(split: Split) -> Sequence[Prompt]:
        found = tuple(
            prompt_from_text(
                config.name,
                fill(template, problem.question),
                {**problem.reference, DEMONSTRATION: problem.demonstration},
            )
            for problem in _problems(config, dataset, split)
        )
        if not found:
            raise ValueError(f"{config.name} has no {split} problems: what was read holds none")
        return found

    def demonstration(prompt: Prompt) -> str | None:
        return prompt.reference[DEMONSTRATION]

    return Task(
        config.name,
        prompts,
        demonstration,
        grader.grade,
        grader.close,
        answer=grader.answer,
    )


def _problems(config: DatasetTaskConfig, dataset: Dataset, split: Split) -> Iterator[Problem]:
    """Read the problems of a split, published or held out."""
    is_cut = "validation" not in dataset.sources and split != "test"
    published: Split = "train" if is_cut else split
    if published not in dataset.sources:
        raise ValueError(
            f"task.name = {config.name!r} has no {split} problems: published are "
            f"{' and '.join(dataset.sources)}"
        )
    for record in read_split(dataset, published, config.path):
        problem = dataset.problem(record)
        if problem is None:
            continue
        if is_cut and split_from_text(problem.question, config.validation_share, 0.0) != split:
            continue
        yield problem
