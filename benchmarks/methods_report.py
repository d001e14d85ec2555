"""What the runs of `methods.py` amount to: intervals over seeds, and the tables.

Reading the tables:

    seeds          how many seeds the row rests on, of those at which all four methods are done
    equal rollouts accuracy after the last RL step, mean over seeds
    equal compute  accuracy at the CPU seconds that the cheapest of the four methods took for all its
                   steps at this task and seed, on the straight line between the evaluations around it
    over the run   mean of a run's evaluations: who is ahead on the way, with less noise than at the end
    (+1.2 ± 3.4)   points ahead of `trace` at the same seed: mean over seeds, and half of its 95 %
                   interval (Student's t, paired by seed). An interval that holds 0 decides nothing
    CPU s / step   rollout + update, at one load of the machine (`at_one_load`)
    groups kept    share of the prompts whose answers differ, and teach, in the last third of the run

Seeds differ in the SFT model they start from, so the rows' own means wander more than their
differences do.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any

Run = Mapping[str, Any]
Runs = Mapping[int, Run]  # of one task and variant, by seed

METHODS = ("value", "trace", "coupled", "random")
SHRINKS = ("trace", "shrink2", "shrink4")
RATES = ("trace", "trace_slow", "coupled", "coupled_slow", "random", "random_slow")
ENLARGED = ("sft", "trace", "train8", "rollout8")
LABELS = {
    "sft": "SFT, where all start",
    "value": "TraceRL + value model",
    "trace": "TraceRL",
    "coupled": "coupled RL",
    "random": "random-masking RL",
    "shrink2": "TraceRL, s = 2",
    "shrink4": "TraceRL, s = 4, the block",
    "train8": "TraceRL, trained in blocks of 8",
    "rollout8": "TraceRL, written and trained in blocks of 8",
    "more_sft": "control: more SFT",
    "trace_slow": "TraceRL, a third of the learning rate",
    "coupled_slow": "coupled RL, a third of it",
    "random_slow": "random-masking RL, a third of it",
}
# 97.5 % quantiles of Student's t with 1, 2, ... degrees of freedom.
T975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def at_one_load(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return the runs with the CPU seconds they would have taken at one load of the machine.

    What else runs on a machine changes how much a CPU second does, and runs are hours apart. So each
    stretch between two evaluations is scaled until a denoising step costs what it cost in the quickest
    run of the task. Adds `rollout_s`, `update_s` and their sum `cpu_s` to every evaluation.
    """
    paces: dict[str, float] = {}
    for run in runs:
        for point in run["curve"][-1:]:
            pace = point["rollout_cpu_s"] / point["denoising_steps"]
            paces[run["task"]] = min(pace, paces.get(run["task"], pace))
    return [{**run, "curve": _scaled(run["curve"], paces.get(run["task"], 1.0))} for run in runs]


def _scaled(curve: Sequence[Mapping[str, float]], pace: float) -> list[dict[str, float]]:
    before = {"rollout_cpu_s": 0.0, "update_cpu_s": 0.0, "denoising_steps": 0.0}
    rollout_s = update_s = 0.0
    points: list[dict[str, float]] = []
    for point in curve:
        rollout, update, steps = (point[name] - before[name] for name in before)
        rollout_s += pace * steps
        update_s += pace * steps * update / rollout
        seconds = {"rollout_s": rollout_s, "update_s": update_s, "cpu_s": rollout_s + update_s}
        points.append({**point, **seconds})
        before = {name: point[name] for name in before}
    return points


def summarise(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the rows of every task: methods, shrink, rates, blocks."""
    found = runs_by_task(runs)
    return {
        "methods": {
            task: _rows(of_task, ("sft", *METHODS, "more_sft"), shared_seeds(of_task, METHODS))
            for task, of_task in found.items()
        },
        **{
            name: {
                task: _rows(of_task, variants, shared_seeds(of_task, (*METHODS, *variants)))
                for task, of_task in found.items()
            }
            for name, variants in (("shrink", SHRINKS), ("rates", RATES))
        },
        "blocks": {task: _block_rows(of_task) for task, of_task in found.items()},
    }


def runs_by_task(runs: Sequence[Run]) -> dict[str, dict[str, dict[int, Run]]]:
    """Return the runs by task, variant and seed."""
    found: dict[str, dict[str, dict[int, Run]]] = {}
    for run in runs:
        of_task = found.setdefault(run["task"], {})
        of_task.setdefault(run["variant"], {})[run["seed"]] = run
    return found


def shared_seeds(of_task: Mapping[str, Runs], variants: Sequence[str]) -> list[int]:
    """Return the seeds at which all these variants are done."""
    return sorted(set.intersection(*(set(of_task.get(variant, {})) for variant in variants)))


def _rows(
    of_task: Mapping[str, Runs], variants: Sequence[str], seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """Return a row for each variant that has runs at these seeds, compared with `trace`."""
    limits = budgets(of_task)

    def at_budget(run: Run) -> float:
        return accuracy_at(full_curve(run, of_task), "cpu_s", limits[run["seed"]])

    def at_end(run: Run) -> float:
        return full_curve(run, of_task)[-1]["accuracy"]

    def on_the_way(run: Run) -> float:
        measured = full_curve(run, of_task)
        return fmean(point["accuracy"] for point in measured[1:] or measured)

    measures = {"equal_rollouts": at_end, "equal_compute": at_budget, "over_the_run": on_the_way}
    trace = of_task.get("trace", {})
    return [
        {
            "variant": variant,
            "seeds": sorted(runs),
            "accuracy": {name: compare(runs, trace, of) for name, of in measures.items()},
            **_costs(runs),
        }
        for variant in variants
        if (runs := {s: r for s, r in of_task.get(variant, {}).items() if s in seeds})
    ]


def _costs(runs: Runs) -> dict[str, Any]:
    """Return what a step costs and what sampling comes to, means over seeds; nothing without RL steps."""
    trained = [run for run in runs.values() if run["curve"]]
    if not trained:
        return {}
    ends = [run["curve"][-1] for run in trained]
    return {
        "cpu_s_per_step": {
            stage: fmean(end[f"{stage}_s"] / end["step"] for end in ends)
            for stage in ("rollout", "update")
        },
        "last_third": {
            name: fmean(run["last_third"][name] for run in trained)
            for name in trained[0]["last_third"]
        },
        "tokens_per_denoising_step": fmean(end["tokens_per_denoising_step"] for end in ends),
    }


def _block_rows(of_task: Mapping[str, Runs]) -> list[dict[str, Any]]:
    """Return a row for each way to come to blocks of 8, compared with the SFT model at the same block."""
    shared = shared_seeds(of_task, ENLARGED)
    return [
        {
            "variant": variant,
            "seeds": shared,
            "at_block": {
                block: _at_block(
                    {seed: of_task[variant][seed] for seed in shared}, of_task["sft"], block
                )
                for block in of_task[variant][shared[0]]["at_block"]
            },
        }
        for variant in (ENLARGED if shared else ())
    ]


def _at_block(runs: Runs, start: Runs, block: str) -> dict[str, Any]:
    speeds = [run["at_block"][block]["tokens_per_denoising_step"] for run in runs.values()]
    return {
        **compare(runs, start, lambda run: run["at_block"][block]["accuracy"]),
        "tokens_per_denoising_step": fmean(speeds),
    }


def budgets(of_task: Mapping[str, Runs]) -> dict[int, float]:
    """Return, for each seed at which all four methods are done, the CPU seconds of the cheapest."""
    return {
        seed: min(of_task[method][seed]["curve"][-1]["cpu_s"] for method in METHODS)
        for seed in shared_seeds(of_task, METHODS)
    }


def full_curve(run: Run, of_task: Mapping[str, Runs]) -> list[Mapping[str, float]]:
    """Return a run's evaluations, from that of the model it started from; one, if it had no RL steps."""
    if not run["curve"]:
        return [run["at_block"]["4"]]
    block = "8" if run["variant"] == "rollout8" else "4"
    start = of_task["sft"][run["seed"]]["at_block"][block]
    return [{"step": 0, "cpu_s": 0.0, **start}, *run["curve"]]


def accuracy_at(curve: Sequence[Mapping[str, float]], axis: str, place: float) -> float:
    """Return the accuracy at a place of an axis, on the straight line between two evaluations.

    Beyond the last evaluation it is the last one.
    """
    for before, after in pairwise(curve):
        if place <= after[axis]:
            part = (place - before[axis]) / (after[axis] - before[axis])
            return before["accuracy"] + part * (after["accuracy"] - before["accuracy"])
    return curve[-1]["accuracy"]


def compare(runs: Runs, others: Runs, measure: Callable[[Run], float]) -> dict[str, Any]:
    """Return the mean of a measure, and its paired lead over other runs at the same seeds.

    Runs have no lead over themselves.
    """
    pairs = [(run, others[seed]) for seed, run in runs.items()]
    leads = [measure(run) - measure(other) for run, other in pairs]
    is_other = any(run is not other for run, other in pairs)
    return {
        "mean": fmean(map(measure, runs.values())),
        "lead": mean_and_half(leads) if is_other else None,
    }


def mean_and_half(values: Sequence[float]) -> tuple[float, float | None]:
    """Return a mean and half of its 95 % interval by Student's t; None of a single value."""
    if len(values) < 2:
        return fmean(values), None
    half = T975[len(values) - 2] * stdev(values) / math.sqrt(len(values))
    return fmean(values), half


def tables(result: Mapping[str, Any]) -> str:
    """Return every table that has rows, as Markdown."""
    parts: list[str] = []
    for name, (title, heads, cells) in TABLES.items():
        for task, rows in result[name].items():
            if rows:
                lines = [heads, ["---"] * len(heads), *map(cells, rows)]
                table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
                parts.append(f"{task}: {title}\n\n{table}\n")
    return "\n".join(parts)


METHOD_HEADS = (
    "method",
    "seeds",
    "equal rollouts",
    "equal compute",
    "over the run",
    "CPU s / step",
    "tokens / denoising step",
    "groups kept",
)
BLOCK_HEADS = ("model", "seeds", "written in 4", "in 8", "tokens / denoising step in 4", "in 8")


def _method_cells(row: Mapping[str, Any]) -> list[str]:
    found = row["accuracy"]
    cells = [LABELS[row["variant"]], str(len(row["seeds"]))]
    if "cpu_s_per_step" not in row:
        return [*cells, "-", _accuracy(found["equal_compute"]), "-", "-", "-", "-"]
    spent = row["cpu_s_per_step"]
    return [
        *cells,
        *(_accuracy(found[name]) for name in ("equal_rollouts", "equal_compute", "over_the_run")),
        f"{spent['rollout']:.2f} + {spent['update']:.2f}",
        f"{row['tokens_per_denoising_step']:.2f}",
        f"{row['last_third']['groups_kept']:.0%}",
    ]


def _block_cells(row: Mapping[str, Any]) -> list[str]:
    found = row["at_block"].values()
    return [
        LABELS[row["variant"]],
        str(len(row["seeds"])),
        *map(_accuracy, found),
        *(f"{at['tokens_per_denoising_step']:.2f}" for at in found),
    ]


def _accuracy(found: Mapping[str, Any]) -> str:
    if found["lead"] is None:
        return f"{found['mean']:.1%}"
    lead, half = found["lead"]
    spread = "" if half is None else f" ± {100 * half:.1f}"
    return f"{found['mean']:.1%} ({100 * lead:+.1f}{spread})"


TABLES: dict[str, tuple[str, Sequence[str], Callable[[Mapping[str, Any]], list[str]]]] = {
    "methods": ("the methods", METHOD_HEADS, _method_cells),
    "shrink": ("neighbouring reveals as one", METHOD_HEADS, _method_cells),
    "rates": ("at a lower learning rate", METHOD_HEADS, _method_cells),
    "blocks": ("from blocks of 4 to blocks of 8", BLOCK_HEADS, _block_cells),
}
