"""`unmask compare A B`: whether B is better than A on the same problems, with a paired test.

Compared are the verdicts of the last grading of each run. Two runs that asked other problems, or were
judged by other graders, are refused with the key that differs: their difference would be no difference
of models. Where both runs hold several samplings, those of the same name are compared; `RUN@NAME` takes
one, which also compares two samplings of one run.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask.configs.load import flatten
from unmask.evaluation.grading import PROTOCOL
from unmask.evaluation.paired import difference_interval, mcnemar, permutation_test
from unmask.json_files import read_object
from unmask.runs.gradings import GRADER, gradings, read_verdicts
from unmask.runs.text_table import align

SAME = ("task", "split", "problems", "problems_sha256", "samples")
# Say where things are and how many work at once, and change no verdict.
FREE = (
    *("task.train", "task.validation", "task.test", "task.path", "time"),
    "isolation",
    *("task.verifier.workers", "task.sandbox.workers"),
)


@dataclass(frozen=True, slots=True)
class Side:
    """One sampling of one run.

    Attributes:
        title: how it is called in the output.
        shares: share of right answers of each problem.
    """

    title: str
    shares: Sequence[float]


@dataclass(frozen=True, slots=True)
class Difference:
    """What a paired test found.

    Attributes:
        accuracies: of the first and of the second.
        difference: second minus first.
        ci95: its 95 % interval: bootstrap over problems.
        p_value: two-sided.
        test: which test.
        better: problems on which the first did better, and on which the second did.
    """

    accuracies: tuple[float, float]
    difference: float
    ci95: tuple[float, float]
    p_value: float
    test: str
    better: tuple[int, int]


def compare_evaluations(first: str, second: str) -> str:
    """Return the comparison of two evaluations, `RUN` or `RUN@SAMPLING` each, as text.

    Raises:
        ValueError: one is no finished evaluation, they asked or judged differently, or no sampling is
            in both; names what differs.
    """
    a, b = _open(first), _open(second)
    _check_comparable(a[0], b[0])
    rows = [("", str(first), str(second), "difference", "95 % interval", "p", "better", "test")]
    for left, right in _pairs(a, b):
        found = difference_of(left.shares, right.shares)
        low, high = found.ci95
        rows.append(
            (
                left.title if left.title == right.title else f"{left.title} / {right.title}",
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
    """Return what a paired test says of two models' shares of right answers, problem by problem."""
    differences = [b - a for a, b in zip(first, second, strict=True)]
    better = sum(d < 0 for d in differences), sum(d > 0 for d in differences)
    is_single = {*first, *second} <= {0.0, 1.0}
    return Difference(
        accuracies=(sum(first) / len(first), sum(second) / len(second)),
        difference=sum(differences) / len(differences),
        ci95=difference_interval(differences),
        p_value=mcnemar(*better) if is_single else permutation_test(differences),
        test="McNemar, exact" if is_single else "permutation over problems",
        better=better,
    )


def _open(word: str) -> tuple[Path, Mapping[str, Sequence[float]]]:
    """Return a run and the shares of right answers of its samplings, all or the one that is named."""
    run, at, name = word.rpartition("@") if not Path(word).is_dir() else (word, "", "")
    path = Path(run or word)
    if not (path / PROTOCOL).is_file() or not gradings(path):
        raise ValueError(f"{path}: is no finished evaluation; `unmask eval` makes one")
    found: dict[str, dict[int, list[bool]]] = {}
    for (variation, problem, _), verdict in sorted(read_verdicts(path).items()):
        right = found.setdefault(variation, {}).setdefault(problem, [])
        right.append(verdict["outcome"] == "correct")
    shares = {
        variation: [sum(right) / len(right) for right in problems.values()]
        for variation, problems in found.items()
    }
    if at and name not in shares:
        raise ValueError(f"{word}: {path} has no sampling {name!r}; it has {', '.join(shares)}")
    return path, {name: shares[name]} if at else shares


def _pairs(
    a: tuple[Path, Mapping[str, Sequence[float]]], b: tuple[Path, Mapping[str, Sequence[float]]]
) -> Iterator[tuple[Side, Side]]:
    (first, left), (second, right) = a, b
    if len(left) == len(right) == 1:
        yield Side(*next(iter(left.items()))), Side(*next(iter(right.items())))
        return
    shared = [name for name in left if name in right]
    if not shared:
        raise ValueError(
            f"{first} has the samplings {', '.join(left)} and {second} has {', '.join(right)}: "
            "name one of each: unmask compare A@NAME B@NAME"
        )
    for name in shared:
        yield Side(name, left[name]), Side(name, right[name])


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
            "`unmask rescore` judges with another grader, other problems need another `unmask eval`"
        )
