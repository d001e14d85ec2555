"""The arena: methods of RL on the same tasks, from the same SFT models, at two budgets.

    python benchmarks/arena.py                                   # benchmarks/arena/main.toml
    python benchmarks/arena.py benchmarks/arena/ablations.toml --jobs 2
    python benchmarks/arena.py --report-only                     # of what is finished
    python benchmarks/arena.py --smoke                           # to see that it runs

A spec (`arena_spec.py`) names methods, tasks, seeds, learning rates and budgets. For a task and a seed one SFT
model is trained; from it every method runs once (`arena_cell.py`), until it has written N rollouts and
forwarded F tokens, whichever is later. Its accuracy on held-out problems is read off at both.

The learning rate of a method and a task is chosen from those of the task, by runs of one further seed that end
at N rollouts: the rate whose accuracy on *validation* problems, mean of the last two evaluations, is the highest; the
lower one of equals. A run that failed counts as 0.

Each run leaves one JSON file in `--work` and is not run again; a file that was made under other entries of the
spec is refused. Runs are ordered seed by seed, so that what is there of a stopped arena compares like with like.

Writes `benchmarks/results/arena/`: the runs as JSON lines, one file for each task (`SPEC-TASK.jsonl`), curves
(`SPEC-TASK.svg`), and the tables (`SPEC.md`), which `arena_report.py` explains. `--report-only` reads the runs from
`--work` and from the files that are there; an arena that is continued on another machine takes them from there too.
"""

import argparse
import hashlib
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from arena_cell import Budgets, run_cell
from arena_report import read_runs, write_report
from arena_spec import Spec, Unit, read_spec
from arena_start import make_problems, make_start, rl_configs, starts_of
from setting import RESULTS

from unmask.runs.files import write_json

SPECS = Path(__file__).parent / "arena"


def main() -> None:
    """Run what is not there yet, and report on what is."""
    arguments = read_arguments()
    torch.set_num_threads(1)
    with ExitStack() as stack:
        spec_file, work, out = arguments.spec, arguments.work, arguments.out
        if arguments.smoke:
            spec_file = SPECS / "smoke.toml"
            work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        spec = read_spec(spec_file)
        work = work or Path("runs/arena") / spec_file.stem
        if out is None and not arguments.smoke:
            out = RESULTS / "arena"
        if not arguments.report_only:
            restore(spec_file.stem, work, out)
            run_all(spec, work, arguments.jobs)
        print(write_report(spec, spec_file.stem, work, out))


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("spec", type=Path, nargs="?", default=SPECS / "main.toml")
    parser.add_argument("--work", type=Path, help="files of the runs; runs/arena/SPEC by default")
    parser.add_argument("--out", type=Path, help="directory of the report")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--report-only", action="store_true", help="run nothing")
    parser.add_argument("--smoke", action="store_true", help="a toy spec, nothing is kept")
    return parser.parse_args()


def restore(name: str, work: Path, out: Path | None) -> None:
    """Write the files of runs that an earlier report holds, so that another machine goes on from it."""
    for run in read_runs(name, work, out):
        rate = run["rate"] if run["kind"] == "rate" else None
        path = work / Unit(run["kind"], run["task"], run["name"], run["seed"], rate).file
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_json(path, run)


def run_all(spec: Spec, work: Path, jobs: int) -> None:
    """Run every unit that has no file, stage by stage; those of a stage need nothing of each other.

    Raises:
        ValueError: at the end, naming the units that raised an error.
    """
    for folder in ("rates", "cells"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    make_problems(work)
    run = partial(error_of, spec, work)
    # A forked process would share the locks of torch's threads.
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        each: Any = map
        if jobs > 1:
            each = stack.enter_context(ProcessPoolExecutor(jobs, mp_context=context)).map
        errors = [error for stage in stages(spec) for error in each(run, stage) if error]
    if errors:
        raise ValueError("\n".join(errors))


def error_of(spec: Spec, work: Path, unit: Unit) -> str | None:
    """Run a unit and return its error, which must not keep the others from running."""
    try:
        run_unit(spec, work, unit)
    except Exception as error:
        # Whatever it is: a later unit that needs this one fails by itself.
        text = f"{unit}: {type(error).__name__}: {error}"
        print(text, file=sys.stderr, flush=True)
        return text
    return None


def stages(spec: Spec) -> Iterator[list[Unit]]:
    """Yield the units in their order: of the first seed task by task with its rates, then seed by seed."""
    starts, tasks = starts_of(spec.methods), list(spec.tasks)
    for place, seed in enumerate(spec.seeds):
        for group in [[task] for task in tasks] if place == 0 else [tasks]:
            seeds = [spec.rate_seed, seed] if place == 0 and has_choice(spec, group) else [seed]
            yield [Unit("start", t, name, s) for s in seeds for t in group for name in starts]
            if place == 0:
                yield [unit for task in group for unit in rate_units(spec, task)]
            yield [Unit("cell", t, name, seed) for name in spec.methods for t in group]


def has_choice(spec: Spec, tasks: Sequence[str]) -> bool:
    """Return whether a task has more than one learning rate."""
    return any(len(spec.tasks[task].rates) > 1 for task in tasks)


def rate_units(spec: Spec, task: str) -> list[Unit]:
    """Return the runs that choose the learning rates of a task; none where there is one rate."""
    rates = spec.tasks[task].rates
    return [
        Unit("rate", task, method, spec.rate_seed, rate)
        for method in spec.methods
        for rate in rates
        if len(rates) > 1
    ]


def run_unit(spec: Spec, work: Path, unit: Unit) -> None:
    """Run a unit and write its file, unless it is there.

    Raises:
        ValueError: its file was made under other entries of the spec.
    """
    torch.set_num_threads(1)
    if unit.kind == "start":
        make_start(spec, unit.task, unit.name, unit.seed, work)
        return
    path, settings = work / unit.file, digest(spec, unit)
    size, is_cell = spec.tasks[unit.task], unit.kind == "cell"
    rate = unit.rate or chosen_rate(spec, work, unit)
    if path.exists():
        found = json.loads(path.read_text())
        if (found["settings"], found["rate"]) != (settings, rate):
            raise ValueError(
                f"{path} was made under another spec: remove it, or give another --work"
            )
        return
    configs = rl_configs(spec, unit, rate, work)
    budgets = Budgets(size.rollouts, size.tokens, size.every, spec.cpu_limit_s)
    if not is_cell:  # ends at N, and its last two evaluations are all that is read
        budgets = replace(budgets, tokens=0, measured_from=size.rollouts * 3 // 4)
    further = (spec.thresholds, spec.noise_batches) if is_cell else ()
    found = run_cell(configs, budgets, *further)
    write_json(path, {**asdict(unit), "rate": rate, "settings": settings, **found})


def digest(spec: Spec, unit: Unit) -> str:
    """Return a digest of the entries of a spec that a run depends on, besides its learning rate."""
    method = spec.methods[unit.name]
    task = spec.tasks[unit.task].model_dump(mode="json", exclude={"rates"})
    shared = spec.model_dump(
        mode="json",
        include={"rate_seed", "problems", "thresholds", "noise_batches", "cpu_limit_s"},
    )
    entries = [shared, task, method, spec.starts[method.start]]
    text = json.dumps([e if isinstance(e, dict) else e.model_dump(mode="json") for e in entries])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def chosen_rate(spec: Spec, work: Path, unit: Unit) -> float:
    """Return the learning rate of a method and a task by the arena's rule."""
    rates = sorted(spec.tasks[unit.task].rates)
    if len(rates) == 1:
        return rates[0]

    def score(rate: float) -> float:
        tried = Unit("rate", unit.task, unit.name, spec.rate_seed, rate)
        return rate_score(json.loads((work / tried.file).read_text()))

    return max(rates, key=score)  # the first, and so the lowest, of equals


def rate_score(run: dict[str, Any]) -> float:
    """Return the score of a learning rate: the mean of its run's last two evaluations, 0 if the run failed."""
    if run["ended"] == "failure":
        return 0.0
    return fmean(point["accuracy"] for point in run["points"][-2:])


if __name__ == "__main__":
    main()
