"""The time of one SFT step and one RL step of the quickstart, by parts.

    python benchmarks/quickstart_parts.py            # about a minute
    python benchmarks/quickstart_parts.py --task mini_sudoku --rl-steps 20

The real `train_sft` and `train_rl` run with the quickstart's configs; nothing in them is replaced.
Chosen callables are wrapped from outside in a nested stop-watch: a part's seconds exclude those of
the parts it calls, so that the rows of a stage add up to the stage, and the stages to the step.
Elapsed seconds (`wall_s`) are a mean over the measured steps (checkpoints and reports, which some
steps have, are spread over all), `cpu_s` is of this process alone: it is far below `wall_s` where
the process waited, as for the verifier's worker. `steps.wall_median_s` in the JSON is the median
step. Steps at the start are left out; the cost of the stop-watch is printed below each table (a
measured upper bound, already included in the parts).

Writes `benchmarks/results/quickstart_parts.json`, with the settings and the machine.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from setting import RESULTS, describe_machine, quickstart_config, write_result

import unmask.engine.attention_backends.plain
import unmask.engine.runner
import unmask.engine.scoring
import unmask.engine.sequence_state
import unmask.rollouts.build
import unmask.trainers.learner
import unmask.trainers.rl
import unmask.trainers.sft
from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig
from unmask.engine.attention_backends.plain import PlainAttend
from unmask.engine.engine import Engine
from unmask.models.heads import LanguageHead
from unmask.models.tiled_attention import TiledAttend
from unmask.models.transformer import Model
from unmask.runs.directory import RunDirectory
from unmask.runs.metrics import Metrics
from unmask.sandbox.verifier_pool import VerifierPool
from unmask.trainers.checkpointer import Checkpointer
from unmask.trainers.learner import Learner
from unmask.trainers.policy_update import PolicyUpdate
from unmask.trainers.quickstart import SHAPES, make_base
from unmask.viewer.live import LiveReport

Part = tuple[str, str]  # stage, part


@dataclass(frozen=True, slots=True)
class Point:
    """A callable to be timed.

    Attributes:
        owner: module or class it is an attribute of.
        name: of the attribute.
        part: what its own time is booked on.
        stage: which stage that part belongs to; the caller's when not given.
    """

    owner: Any
    name: str
    part: str
    stage: str | None = None


# The model's seconds belong to the stage that calls it: the engine's rollout, the learner's update.
POINTS = (
    Point(unmask.rollouts.build, "write_trajectories", "requests: seeds, checks, order", "rollout"),
    Point(Engine, "tick", "engine: state, admission, trajectories"),
    Point(unmask.engine.runner, "plan_feed", "engine: rows and attention plan"),
    Point(unmask.engine.runner, "plan_block", "engine: rows and attention plan"),
    Point(unmask.engine.runner, "lay_rows", "engine: rows and attention plan"),
    Point(unmask.engine.runner, "lay_scored", "engine: rows and attention plan"),
    Point(unmask.engine.attention_backends.plain, "plan_groups", "engine: rows and attention plan"),
    Point(unmask.engine.runner, "advance", "engine: reveals, ends, next blocks"),
    Point(unmask.engine.sequence_state, "reveal", "sampling: reveal"),
    Point(unmask.trainers.rl, "grade_trajectories", "decoding, groups", "reward"),
    Point(VerifierPool, "grade", "verifier (a worker process)"),
    Point(unmask.trainers.rl, "rollout_views", "views, advantages", "update"),
    Point(unmask.trainers.sft, "noisy_views", "views, noise", "update"),
    Point(unmask.trainers.sft, "weighted_views", "weights, objective, statistics", "update"),
    Point(PolicyUpdate, "__call__", "weights, objective, statistics", "update"),
    Point(Learner, "update", "weights, objective, statistics", "update"),
    Point(unmask.trainers.learner, "pack_views", "layout"),
    Point(unmask.engine.scoring, "plan_documents", "attention plan"),
    Point(Model, "forward", "forward: layers without attention"),
    Point(LanguageHead, "forward", "forward: head"),
    Point(PlainAttend, "__call__", "forward: attention"),
    Point(TiledAttend, "__call__", "forward: attention"),
    Point(torch.Tensor, "backward", "backward"),
    Point(Learner, "_clip", "optimizer"),
    Point(torch.optim.AdamW, "step", "optimizer"),
    Point(Metrics, "log", "metrics, trajectories", "run directory"),
    Point(RunDirectory, "record", "metrics, trajectories", "run directory"),
    Point(LiveReport, "refresh", "report", "run directory"),
    Point(Checkpointer, "on_step_end", "checkpoints", "run directory"),
)


@dataclass(slots=True)
class Span:
    """An open call: when it began, and what the timed calls inside it took."""

    part: Part
    wall: float
    cpu: float
    inner_wall: float = 0.0
    inner_cpu: float = 0.0


@dataclass(slots=True)
class Lap:
    """One step: its seconds, and own seconds and calls by part."""

    wall: float
    cpu: float
    parts: dict[Part, tuple[float, float, int]]


@dataclass(slots=True)
class StopWatch:
    """Books the own time of nested calls, lap by lap."""

    laps: list[Lap] = field(default_factory=list)
    _open: list[Span] = field(default_factory=list)
    _parts: dict[Part, tuple[float, float, int]] = field(default_factory=dict)
    _start: tuple[float, float] = field(default_factory=lambda: _now())

    def wrap(self, function: Callable[..., Any], point: Point) -> Callable[..., Any]:
        """Return the function, timed."""

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            stage = point.stage or (self._open[-1].part[0] if self._open else "outside")
            self._open.append(Span((stage, point.part), *_now()))
            try:
                return function(*args, **kwargs)
            finally:
                self._close()

        return timed

    def _close(self) -> None:
        span = self._open.pop()
        now = _now()
        wall, cpu = now[0] - span.wall, now[1] - span.cpu
        if self._open:
            self._open[-1].inner_wall += wall
            self._open[-1].inner_cpu += cpu
        before = self._parts.get(span.part, (0.0, 0.0, 0))
        own = (wall - span.inner_wall, cpu - span.inner_cpu, 1)
        self._parts[span.part] = tuple(a + b for a, b in zip(before, own, strict=True))  # type: ignore[assignment]

    def end_lap(self) -> None:
        """Close a step and begin the next."""
        now = _now()
        self.laps.append(Lap(now[0] - self._start[0], now[1] - self._start[1], self._parts))
        self._parts, self._start = {}, now


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


@contextmanager
def stop_watch(points: Sequence[Point] = POINTS) -> Iterator[StopWatch]:
    """Time the points while the `with` lasts; a lap ends with every `Checkpointer.on_step_end`."""
    watch = StopWatch()
    with ExitStack() as undo:
        for point in points:
            original = getattr(point.owner, point.name)
            undo.callback(setattr, point.owner, point.name, original)
            setattr(point.owner, point.name, watch.wrap(original, point))
        after = Checkpointer.on_step_end

        def last(*args: Any, **kwargs: Any) -> None:
            after(*args, **kwargs)
            watch.end_lap()

        Checkpointer.on_step_end = last  # type: ignore[method-assign]
        yield watch


def cost_per_call() -> float:
    """Return the seconds that timing adds to a call."""
    watch, count = StopWatch(), 20_000
    empty = watch.wrap(lambda: None, Point(None, "", "empty"))
    start = time.perf_counter()
    for _ in range(count):
        empty()
    return (time.perf_counter() - start) / count


def summarise(laps: Sequence[Lap]) -> dict[str, Any]:
    """Return the mean step in parts; what no part took is `rest`."""
    count = len(laps)
    wall, cpu = sum(lap.wall for lap in laps) / count, sum(lap.cpu for lap in laps) / count
    names = dict.fromkeys(part for lap in laps for part in lap.parts)
    sums = {
        name: [sum(column) / count for column in zip(*_found(laps, name), strict=True)]
        for name in names
    }
    booked = [sum(column) for column in zip(*sums.values(), strict=True)]
    sums["rest", "rest of the loop"] = [wall - booked[0], cpu - booked[1], 0]
    rows = [
        {
            "stage": stage,
            "part": part,
            "calls": round(calls, 1),
            "wall_s": round(part_wall, 6),
            "cpu_s": round(part_cpu, 6),
            "share": round(part_wall / wall, 4),
        }
        for (stage, part), (part_wall, part_cpu, calls) in sums.items()
    ]
    order = {stage: place for place, stage in enumerate(dict.fromkeys(r["stage"] for r in rows))}
    rows.sort(key=lambda row: (order[row["stage"]], -row["wall_s"]))
    steps = {
        "measured": count,
        "wall_s": round(wall, 6),
        "cpu_s": round(cpu, 6),
        "wall_median_s": round(median(lap.wall for lap in laps), 6),
        "cpu_median_s": round(median(lap.cpu for lap in laps), 6),
        "stop_watch_s": round(booked[2] * cost_per_call(), 6),
    }
    return {"steps": steps, "parts": rows}


def _found(laps: Sequence[Lap], part: Part) -> list[tuple[float, float, int]]:
    return [lap.parts.get(part, (0.0, 0.0, 0)) for lap in laps]


def show(title: str, summary: dict[str, Any]) -> None:
    """Print one table: stages, and their parts below them."""
    steps, console = summary["steps"], Console()
    table = Table(title=f"{title}: mean of {steps['measured']} steps")
    for heading in ("stage and part", "calls", "wall ms", "cpu ms", "share"):
        table.add_column(heading, justify="left" if heading == "stage and part" else "right")
    for stage in dict.fromkeys(row["stage"] for row in summary["parts"]):
        rows = [row for row in summary["parts"] if row["stage"] == stage]
        table.add_row(*_cells(stage, rows), style="bold")
        if len(rows) > 1:
            for row in rows:
                table.add_row(*_cells(f"  {row['part']}", [row]))
    table.add_section()
    total = {"calls": 0, "wall_s": steps["wall_s"], "cpu_s": steps["cpu_s"], "share": 1.0}
    table.add_row(*_cells("step", [total]), style="bold")
    console.print(table)
    print(
        f"median step {steps['wall_median_s'] * 1e3:.0f} ms wall, "
        f"{steps['cpu_median_s'] * 1e3:.0f} ms cpu; "
        f"the stop-watch takes at most {steps['stop_watch_s'] * 1e3:.1f} ms of a step"
    )


def _cells(name: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    wall, cpu, share = (sum(row[key] for row in rows) for key in ("wall_s", "cpu_s", "share"))
    calls = f"{rows[0]['calls']:.0f}" if len(rows) == 1 and rows[0]["calls"] else ""
    return [name, calls, f"{wall * 1e3:.1f}", f"{cpu * 1e3:.1f}", f"{share:.1%}"]


def measure_sft(arguments: argparse.Namespace, directory: Path) -> tuple[dict[str, Any], Path]:
    """Run the quickstart's SFT from random weights; return its parts and the trained model."""
    overrides = [f"steps={arguments.sft_steps}", f"run.seed={arguments.seed}"]
    overrides += ["task.size=400"] if arguments.smoke else []
    base = directory / "base"
    config = quickstart_config(SFTConfig, arguments.task, directory / "sft", base, overrides)
    make_base(config, base, arguments.seed)
    with stop_watch() as watch:
        model = unmask.trainers.sft.train_sft(config)
    return summarise(watch.laps[arguments.skip :]), model


def measure_rl(arguments: argparse.Namespace, directory: Path, model: Path) -> dict[str, Any]:
    """Run the quickstart's RL from a model and return its parts."""
    overrides = [f"steps={arguments.rl_steps}", f"run.seed={arguments.seed}", *arguments.override]
    config = quickstart_config(RLConfig, arguments.task, directory / "rl", model, overrides)
    with stop_watch() as watch:
        unmask.trainers.rl.train_rl(config)
    return summarise(watch.laps[arguments.skip :])


def read_arguments() -> argparse.Namespace:
    """Read the command line; `--smoke` is a few steps of a small batch, and writes nothing by itself."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", default="chain_sum", choices=list(SHAPES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", type=Path, help="start RL from this checkpoint; no SFT is run")
    parser.add_argument("--sft-steps", type=int, default=200)
    parser.add_argument("--rl-steps", type=int, default=40)
    parser.add_argument("--skip", type=int, default=3, help="steps left out at the start")
    parser.add_argument(
        "--override", nargs="*", default=[], metavar="KEY=VALUE", help="of the RL config"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "quickstart_parts.json")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.sft_steps = arguments.rl_steps = 2
        arguments.skip = 1
        arguments.override += ["rollout.prompts=8", "filter.drop_uniform=false", "task.size=400"]
        if arguments.out == parser.get_default("out"):
            arguments.out = None
    if min(arguments.sft_steps, arguments.rl_steps) <= arguments.skip:
        parser.error("--skip leaves no step to measure")
    return arguments


def main() -> None:
    """Measure both trainers, print the tables and write the JSON."""
    arguments = read_arguments()
    settings = {key: str(value) for key, value in vars(arguments).items() if key != "out"}
    result: dict[str, Any] = {"settings": settings, "machine": describe_machine()}
    with tempfile.TemporaryDirectory() as place:
        model = arguments.model
        if model is None:
            result["sft"], model = measure_sft(arguments, Path(place))
            show(f"SFT, {arguments.task}", result["sft"])
        result["rl"] = measure_rl(arguments, Path(place), model)
        show(f"RL, {arguments.task}", result["rl"])
    result["machine"] |= {"threads": torch.get_num_threads()}
    write_result(arguments.out, result)


if __name__ == "__main__":
    main()
