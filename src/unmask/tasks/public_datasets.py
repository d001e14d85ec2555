"""Public data sets as tasks: `kind = "dataset"`.

Problems are read when a split is first requested, and kept unchanged, repeats included, so that scores
compare with published ones. A problem that its grader cannot grade is left out, by name and with a
warning. Test problems are never trained on. Where no validation split was published, a share of the
training problems is held out by a hash of the question, so that the same problem is held out whatever
the template, the seed and the file it came from.
"""

from collections.abc import Sequence
from functools import cache

from unmask.configs.import_path import import_object
from unmask.configs.task import DatasetTaskConfig
from unmask.tasks.dataset import DEMONSTRATION, Dataset, Problem, fit_problems, warn_of_left_out
from unmask.tasks.grader import Grader, own_grader
from unmask.tasks.record import UnfitProblemError
from unmask.tasks.sources import read_split
from unmask.tasks.task import Task, prompt_from_text, split_from_text
from unmask.tasks.template import check_template, filled
from unmask.types import Prompt, Split


def dataset_by_name(name: str) -> Dataset:
    """Return a data set of `unmask.tasks.datasets`, or one from elsewhere by `module:OBJECT`."""
    path = name if ":" in name else f"unmask.tasks.datasets.{name}:DATASET"
    dataset = import_object(path, f"task.name = {name!r}")
    assert isinstance(dataset, Dataset), "the configuration refuses anything else"
    return dataset


def build_dataset_task(config: DatasetTaskConfig) -> Task:
    """Build the task of a public data set; its problems are read at the first call of `prompts`.

    Raises:
        ValueError: a path or an own reward that does not exist, or a template without a question.
    """
    dataset = dataset_by_name(config.name)
    if config.path is not None and not config.path.exists():
        raise ValueError(f"task.path = {config.path}: there is no such file or directory")
    template = dataset.template if config.template is None else config.template
    check_template(template)
    grader = own_grader(config) or dataset.build_grader(config)

    @cache
    def read(split: Split) -> tuple[Sequence[Prompt], Sequence[str]]:
        problems, left_out = _problems(config, dataset, split, grader)
        found = tuple(
            prompt_from_text(
                config.name,
                filled(template, problem.question, bool(problem.images)),
                {**problem.reference, DEMONSTRATION: problem.demonstration},
                images=problem.images,
            )
            for problem in problems
        )
        if not found:
            what = f"all are left out: {'; '.join(left_out)}" if left_out else "none was read"
            raise ValueError(f"{config.name} has no {split} problems: {what}")
        warn_of_left_out(f"{config.name}: {{}} {split} problems", left_out, len(found))
        grader.check(f"task.name = {config.name!r}, {split} problems", found)
        return found, left_out

    return Task(
        config.name,
        lambda split: read(split)[0],
        lambda prompt: prompt.reference[DEMONSTRATION],
        grader.grade,
        grader.close,
        answer=grader.answer,
        left_out=lambda split: read(split)[1],
        isolation=grader.isolation,
    )


def _problems(
    config: DatasetTaskConfig, dataset: Dataset, split: Split, grader: Grader
) -> tuple[list[Problem], list[str]]:
    """Return the problems of a split, published or held out, and the names and reasons of those left out."""
    # Without a published validation split, train and validation are both cut from "train".
    is_cut = "validation" not in dataset.sources and split != "test"
    published: Split = "train" if is_cut else split
    if published not in dataset.sources:
        raise ValueError(
            f"task.name = {config.name!r} has no {split} problems: published are "
            f"{' and '.join(dataset.sources)}"
        )
    problems: list[tuple[str, Problem]] = []
    left_out: list[str] = []
    for record in read_split(dataset, published, config.path, config.image_root):
        try:
            problem = dataset.problem(record)
        except UnfitProblemError as error:
            left_out.append(f"{record.name}: {error}")
            continue
        share = config.validation_share
        if problem and (not is_cut or split_from_text(problem.question, share, 0.0) == split):
            problems.append((record.name, problem))
    kept, unfit = fit_problems(problems, grader)
    return kept, left_out + unfit
