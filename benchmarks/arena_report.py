"""What the runs of an arena amount to: one table of methods and tasks, and one of details for each task.

Reading the tables:

    at N           accuracy at N rollouts, mean over the seeds that are there
    at F           accuracy at F forwarded tokens, on the straight line between the evaluations around it
    (+1.2 ± 3.4)   points ahead of the baseline at the same seed: mean over the seeds that both have, and half
                   of its 95 % interval (Student's t, paired by seed). An interval that holds 0 decides nothing
    start          accuracy of the SFT models
    mean lead      the lead, mean over all tasks, and its interval over the seeds at which all of them are there
    tokens/step    tokens that a denoising step reveals
    AUP            area under accuracy (in percent) by tokens per denoising step over the thresholds of dynamic
                   sampling, as arXiv 2601.07568 weighs it (`aup`)
    noise          variance over squared mean of the gradient at the start, sums over seeds; `-` with a critic,
                   `no mean` where the estimate of the squared mean is not positive
    gap            distance between engine and learner in log-probability, mean over tokens and seeds
    CPU s          of rollouts and updates up to N; on a shared machine good to a factor of two
    failed         runs that ended in an error (such as a gradient that is not finite), that lost more than half of
                   the accuracy they began with (collapse), or that were cut at the CPU limit. They count in all
                   means, with their last accuracy
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from arena_plot import draw
from arena_spec import Spec
from intervals import mean_and_half
from setting import describe_machine

PLACES = ("at N", "at F")
Run = Mapping[str, Any]
Runs = Mapping[int, Run]  # of one task and method, by seed
Number = Callable[[Run], float | None]
Reading = Callable[[Run], float]

# Weight of a loss of accuracy, and the points below the first at which a curve ends (arXiv 2601.07568).
ALPHA, LARGEST_LOSS = 3.0, 5.0


def write_report(spec: Spec, name: str, work: Path, out: Path | None) -> str:
    """Return the tables as Markdown, and write runs, curves and tables below `out`."""
    runs = read_runs(name, work, out)
    text = report(spec, name, runs)
    if out is None:
        return text
    out.mkdir(parents=True, exist_ok=True)
    for task in spec.tasks:
        of_task = [run for run in runs if run["task"] == task]
        if of_task:
            lines = "".join(json.dumps(run, separators=(",", ":")) + "\n" for run in of_task)
            (out / f"{name}-{task}.jsonl").write_text(lines)
            (out / f"{name}-{task}.svg").write_text(draw(task, curves(spec, of_task)))
    machine = json.dumps(describe_machine())
    (out / f"{name}.md").write_text(f"{text}\nThe machine of the report: `{machine}`.\n")
    return text


def read_runs(name: str, work: Path, out: Path | None) -> list[dict[str, Any]]:
    """Return the finished runs: those of `work`, and those of an earlier report in `out`."""
    texts = [
        line
        for path in sorted(out.glob(f"{name}-*.jsonl") if out else [])
        for line in path.read_text().splitlines()
    ]
    texts += [path.read_text() for path in sorted(work.glob("rates/*.json"))]
    texts += [path.read_text() for path in sorted(work.glob("cells/*.json"))]
    found = [json.loads(text) for text in texts]
    # The file of `work` wins over an earlier report. One run of a seed has one rate.
    return list({_key(run): run for run in found}.values())


def _key(run: Run) -> tuple[Any, ...]:
    return run["kind"], run["task"], run["name"], run["seed"], run["kind"] == "rate" and run["rate"]


def report(spec: Spec, name: str, runs: Sequence[Run]) -> str:
    """Return all tables, and what is missing, as Markdown."""
    cells = [run for run in runs if run["kind"] == "cell" and run["task"] in spec.tasks]
    found = {task: runs_of(spec, cells, task) for task in spec.tasks}
    parts = [f"# Arena: {name}\n", missing(spec, cells), ""]
    heads = [f"{task} {place}" for task in spec.tasks for place in PLACES]
    rows = [
        [
            label_of(spec, method),
            *(
                _shown(spec, found[task], method, number)
                for task in spec.tasks
                for number in readings(spec, task)
            ),
            *(_lead_over_tasks(spec, found, method, place) for place in range(len(PLACES))),
        ]
        for method in spec.methods
    ]
    starts = [_start_cell(found[task], spec) for task in spec.tasks for _ in PLACES]
    heads += [f"mean lead {place}" for place in PLACES]
    parts += [_table(["method", *heads], [["SFT, the start", *starts, "-", "-"], *rows])]
    for task, size in spec.tasks.items():
        if found[task]:
            parts += [
                f"\n## {task}\n\nN = {size.rollouts:,} rollouts, F = {size.tokens:,} forwarded tokens, learning rates "
                f"{', '.join(f'{rate:g}' for rate in size.rates)}, {spec.problems} held-out problems.\n",
                f"![Accuracy by rollouts, forwarded tokens and CPU seconds]({name}-{task}.svg)\n",
                _table(DETAILS, list(detail_rows(spec, found[task], task))),
            ]
    return "\n".join(parts) + "\n"


def runs_of(spec: Spec, cells: Sequence[Run], task: str) -> dict[str, dict[int, Run]]:
    """Return the compared runs of a task by method and seed."""
    found: dict[str, dict[int, Run]] = {}
    for run in cells:
        if run["task"] == task and run["name"] in spec.methods:
            found.setdefault(run["name"], {})[run["seed"]] = run
    return found


def missing(spec: Spec, cells: Sequence[Run]) -> str:
    """Return how many of the spec's runs there are, and which are not."""
    done = {(run["task"], run["name"], run["seed"]) for run in cells}
    wanted = [(t, m, s) for s in spec.seeds for t in spec.tasks for m in spec.methods]
    lacking = [unit for unit in wanted if unit not in done]
    text = f"{len(wanted) - len(lacking)} of {len(wanted)} runs are there"
    if not lacking:
        return f"{text}."
    by_place: dict[tuple[str, int], list[str]] = {}
    for task, method, seed in lacking:
        by_place.setdefault((task, seed), []).append(method)
    named = (
        f"- {task}, seed {seed}: "
        f"{'all methods' if len(methods) == len(spec.methods) else ', '.join(methods)}"
        for (task, seed), methods in by_place.items()
    )
    return "\n".join([f"{text}. Missing:\n", *named])


def readings(spec: Spec, task: str) -> tuple[Reading, Reading]:
    """Return what reads the accuracy of a run at N and at F."""
    size = spec.tasks[task]
    return (
        lambda run: value_at(run, "accuracy", "rollouts", size.rollouts),
        lambda run: value_at(run, "accuracy", "tokens", size.tokens),
    )


def value_at(run: Run, name: str, axis: str, place: float) -> float:
    """Return a number of a run's evaluations at a place of an axis, on the straight line between two.

    Beyond the last evaluation it is the last one.
    """
    for before, after in pairwise(run["points"]):
        low, high = along(before, axis), along(after, axis)
        if place <= high:
            part = (place - low) / (high - low) if high > low else 1.0
            return before[name] + part * (after[name] - before[name])
    return run["points"][-1][name]


def along(point: Mapping[str, float], axis: str) -> float:
    """Return where an evaluation lies on an axis: `rollouts`, `tokens` or `cpu_s`."""
    if axis == "tokens":
        return point["sampler_tokens"] + point["learner_tokens"]
    return point[axis]


def aup(curve: Sequence[Mapping[str, float]], best: float) -> float | None:
    """Return the accuracy under parallelism of (tokens per denoising step, accuracy), None without points.

        rho_1 y_1 + sum_(i > 1) (rho_i - rho_(i-1)) (y_i W(y_i) + y_(i-1) W(y_(i-1))) / 2,
        W(y) = min(exp(-3 (1 - y / best)), 1),

    over points in the order of parallelism `rho`, accuracy `y` in percent; those more than 5 points below
    the first one are left out (arXiv 2601.07568).

    Args:
        curve: points.
        best: the highest accuracy of any method on the task, a share.
    """
    points = sorted((p["tokens_per_denoising_step"], 100 * p["accuracy"]) for p in curve)
    if not points or not best:
        return None
    kept = [(rho, y) for rho, y in points if y >= points[0][1] - LARGEST_LOSS]
    weighed = [(rho, y * min(math.exp(-ALPHA * (1 - y / (100 * best))), 1.0)) for rho, y in kept]
    area = sum((rho - r) * (wy + w) / 2 for (r, w), (rho, wy) in pairwise(weighed))
    return kept[0][0] * kept[0][1] + area


def failure_of(run: Run) -> str | None:
    """Return how a run failed; None if it did not."""
    if run["ended"] != "budgets":
        return run["ended"]
    is_lost = run["points"][-1]["accuracy"] < start_accuracy(run) / 2
    return "collapse" if is_lost else None


DETAILS = (
    "method", "seeds", "rate", "start", "tokens/step at N", "at F", "AUP", "noise", "gap", "CPU s to N",
    "learner tokens to N", "rollouts to F", "failed",
)  # fmt: skip


def detail_rows(spec: Spec, found: Mapping[str, Runs], task: str) -> Iterator[list[str]]:
    """Yield the cells of each method's row of a task's second table."""
    size = spec.tasks[task]
    measured = [
        point for runs in found.values() for run in runs.values() for point in run["parallelism"]
    ]
    best = max((point["accuracy"] for point in measured), default=0.0)

    def parallel(axis: str, place: float) -> Number:
        return lambda run: value_at(run, "tokens_per_denoising_step", axis, place)

    for method in filter(found.__contains__, spec.methods):
        runs, others = found[method], found.get(spec.baseline_of(method), {})
        rates = dict.fromkeys(f"{run['rate']:g}" for run in runs.values())
        failures = filter(None, map(failure_of, runs.values()))
        yield [
            label_of(spec, method),
            str(len(runs)),
            ", ".join(rates),
            _mean(runs, start_accuracy, "{:.1%}"),
            _mean(runs, parallel("rollouts", size.rollouts), "{:.2f}"),
            _mean(runs, parallel("tokens", size.tokens), "{:.2f}"),
            _with_lead(runs, others, lambda run: aup(run["parallelism"], best), 1.0, ""),
            _noise(list(runs.values())),
            _mean(runs, lambda run: run["gap"] and run["gap"]["mean"], "{:.0e}"),
            _mean(runs, lambda run: _cost(run, "cpu_s", size.rollouts), "{:.1f}"),
            _mean(runs, lambda run: _cost(run, "learner_tokens", size.rollouts) / 1e6, "{:.2f} M"),
            _mean(runs, lambda run: value_at(run, "rollouts", "tokens", size.tokens), "{:,.0f}"),
            ", ".join(sorted(failures)) or "-",
        ]


def _cost(run: Run, name: str, rollouts: int) -> float:
    return value_at(run, name, "rollouts", rollouts)


def _noise(runs: Sequence[Run]) -> str:
    found = [run["noise"] for run in runs if run["noise"]]
    if not found:
        return "-"
    variance, mean = (sum(noise[name] for noise in found) for name in ("variance", "squared_mean"))
    return f"{variance / mean:.1f}" if mean > 0 else "no mean"


def label_of(spec: Spec, method: str) -> str:
    """Return a method's name in tables."""
    return spec.methods[method].label or method


def _start_cell(found: Mapping[str, Runs], spec: Spec) -> str:
    return _mean(found.get(spec.baseline, {}), start_accuracy, "{:.1%}")


def start_accuracy(run: Run) -> float:
    """Return the accuracy of the SFT model that a run begins with."""
    return run["points"][0]["accuracy"]


def _shown(spec: Spec, found: Mapping[str, Runs], method: str, number: Number) -> str:
    others = found.get(spec.baseline_of(method), {})
    return _with_lead(found.get(method, {}), others, number, 100.0, "%")


def _lead_over_tasks(
    spec: Spec, found: Mapping[str, Mapping[str, Runs]], method: str, place: int
) -> str:
    """Return a method's lead, mean over all tasks, over the seeds at which all of them are there."""
    baseline = spec.baseline_of(method)
    runs = [(found[t].get(method, {}), found[t].get(baseline, {}), t) for t in spec.tasks]
    seeds = set[int].intersection(*(set(own) & set(others) for own, others, _ in runs))
    if method == baseline or not seeds:
        return "-"
    leads = [
        fmean(
            100 * (number(own[seed]) - number(others[seed]))
            for own, others, task in runs
            for number in [readings(spec, task)[place]]
        )
        for seed in sorted(seeds)
    ]
    lead, half = mean_and_half(leads)
    return f"{lead:+.1f}" if half is None else f"{lead:+.1f} ± {half:.1f}"


def _with_lead(runs: Runs, others: Runs, number: Number, scale: float, unit: str) -> str:
    """Return a mean, with its paired lead over other runs where these are others."""
    values = {seed: value for seed, run in runs.items() if (value := number(run)) is not None}
    if not values:
        return "-"
    mean = f"{scale * fmean(values.values()):.1f}{unit}"
    leads = [
        scale * (value - other)
        for seed, value in values.items()
        if seed in others
        and runs[seed] is not others[seed]
        and (other := number(others[seed])) is not None
    ]
    if not leads:
        return mean
    lead, half = mean_and_half(leads)
    spread = "" if half is None else f" ± {half:.1f}"
    return f"{mean} ({lead:+.1f}{spread})"


def _mean(runs: Runs, number: Number, form: str) -> str:
    known = [value for run in runs.values() if (value := number(run)) is not None]
    return form.format(fmean(known)) if known else "-"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in [heads, ["---"] * len(heads), *rows])


def curves(spec: Spec, runs: Sequence[Run]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Return mean curves by axis and method, over the seeds that all methods with runs have."""
    cells = [run for run in runs if run["kind"] == "cell"]
    found = runs_of(spec, cells, cells[0]["task"]) if cells else {}
    shared = set[int].intersection(*(set(of) for of in found.values())) if found else set[int]()
    axes: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for axis in ("rollouts", "tokens", "cpu_s"):
        lines = axes[axis] = {}
        for method in filter(found.__contains__, spec.methods):
            of = found[method]
            chosen = [of[seed] for seed in sorted(shared or of)]
            end = min(along(run["points"][-1], axis) for run in chosen)
            places = [end * number / 24 for number in range(25)]
            lines[label_of(spec, method)] = [
                (at, fmean(value_at(run, "accuracy", axis, at) for run in chosen)) for at in places
            ]
    return axes
