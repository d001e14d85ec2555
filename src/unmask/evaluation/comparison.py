"""`unmask compare A B`: a paired test of two evaluations on the same problems.

Compared are the verdicts of the last grading of each run. Two runs with different problems or different
graders are refused with the key that differs, because their difference would not be one of models.
Where both runs hold several samplings, those of the same name are compared; `RUN@NAME` selects one,
which also compares two samplings of one run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from unmask.configs.load import flatten
from unmask.evaluation.estimates import Interval, mean_interval
from unmask.evaluation.grading import PROTOCOL
from unmask.evaluation.paired import mcnemar, permutation_test
from unmask.json_files import read_object
from unmask.runs.gradings import GRADER, gradings, verdicts_by_problem
from unmask.runs.text_table import align

SAME = ("task", "split", "problems", "problems_sha256", "samples")
# Locations and numbers of workers, which change no verdict.
FREE = (
    *("task.train", "task.validation", "task.test", "task.path", "time"),
    "isolation",
    *("task.verifier.workers", "task.sandbox.workers"),
)


# A sampling of one run: its title in the table, and the share of right responses per problem.
Side = tuple[str, Sequence[float]]
Sides = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Difference:
    """The result of a paired test of two samplings.

    Attributes:
        accuracies: of the first and of the second.
        difference: second minus first.
        ci95: 95 % interval of the difference, by bootstrap over problems.
        p_value: two-sided.
        test: name of the test.
        better: number of problems on which the first is better, and on which the second is.
    """

    accuracies: tuple[float, float]
    difference: float
    ci95: Interval
    p_value: float
    test: str
    better: tuple[int, int]


def compare_evaluations(first: str, second: str) -> str:
    """Return the comparison of two evaluations, `RUN` or `RUN@SAMPLING` each, as text.

    Raises:
        ValueError: one is not a finished evaluation, problems or graders differ, or no sampling is in
            both; names the difference.
    """
    a, b = _open(first), _open(second)
    _check_comparable(a[0], b[0])
    rows = [("", first, second, "difference", "95 % interval", "p", "better", "test")]
    for (title, left), (other, right) in _pairs(a, b):
        found = difference_of(left, right)
        low, high = found.ci95
        rows.append(
            (
                title if title == other else f"{title} / {other}",
                f"{found.accuracies[0]:.1%}",
                f"{found.accuracies[1]:.1%}",
                f"{found.difference:+.1%}",
                f"{low:+.1%} .. {high:+.1%}",
                f"{found.p_value:.2g}",
                "{} / {}".format(*found.better),
                found.test,
            )
        )
    return align(rows)


def difference_of(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Return the paired test of two models' shares of right responses per problem."""
    differences = [b - a for a, b in zip(first, second, strict=True)]
    better = sum(d < 0 for d in differences), sum(d > 0 for d in differences)
    is_single = {*first, *second} <= {0.0, 1.0}
    return Difference(
        accuracies=(sum(first) / len(first), sum(second) / len(second)),
        difference=sum(differences) / len(differences),
        ci95=mean_interval(differences),
        p_value=mcnemar(*better) if is_single else permutation_test(differences),
        test="McNemar, exact" if is_single else "permutation over problems",
        better=better,
    )


def _open(word: str) -> tuple[Path, Sides]:
    """Return a run and the shares of right responses per problem, by sampling: all, or the named one."""
    run, at, name = word.rpartition("@") if not Path(word).is_dir() else (word, "", "")
    path = Path(run or word)
    if not (path / PROTOCOL).is_file() or not gradings(path):
        raise ValueError(f"{path}: is not a finished evaluation; `unmask eval` makes one")
    shares = {
        variation: [fmean(v["outcome"] == "correct" for v in verdicts) for verdicts in problems]
        for variation, problems in verdicts_by_problem(path).items()
    }
    if at and name not in shares:
        raise ValueError(f"{word}: {path} has no sampling {name!r}; it has {', '.join(shares)}")
    return path, {name: shares[name]} if at else shares


def _pairs(a: tuple[Path, Sides], b: tuple[Path, Sides]) -> list[tuple[Side, Side]]:
    """Return the samplings to compare: the only one of each run, or those of the same name."""
    (first, left), (second, right) = a, b
    if len(left) == len(right) == 1:
        return list(zip(left.items(), right.items(), strict=True))
    shared = [name for name in left if name in right]
    if not shared:
        raise ValueError(
            f"{first} has the samplings {', '.join(left)} and {second} has {', '.join(right)}: "
            "name one of each: unmask compare A@NAME B@NAME"
        )
    return [((name, left[name]), (name, right[name])) for name in shared]


def _check_comparable(first: Path, second: Path) -> None:
    protocols = [read_object(run / PROTOCOL) for run in (first, second)]
    for key in SAME:
        _check_same(key, first, second, *(protocol[key] for protocol in protocols))
    graders = [dict(flatten(read_object(gradings(run)[-1] / GRADER))) for run in (first, second)]
    for key in sorted(graders[0].keys() | graders[1].keys()):
        if not any(f"{key}.".startswith(f"{free}.") for free in FREE):
            _check_same(key, first, second, *(grader.get(key) for grader in graders))


def _check_same(key: str, first: Path, second: Path, left: Any, right: Any) -> None:
    if left != right:
        raise ValueError(
            f"{key}: {first} has {left} and {second} has {right}, so they cannot be compared; "
            "`unmask rescore` grades again with another grader, other problems need another `unmask eval`"
        )
