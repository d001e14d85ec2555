"""Which method of RL learns best, at equal rollouts and at equal compute.

    python benchmarks/methods.py                      # hours on one core; continues where it was stopped
    python benchmarks/methods.py --seeds 0 --tasks chain_sum
    python benchmarks/methods.py --report-only        # the tables and the picture of finished units

For each task and seed one tiny model is trained by the quickstart's SFT. From this model every method
starts, with the prompts, the seeds and the settings of the quickstart's RL config; nothing was tuned
here for any of them. The *variants* differ in one thing:

    trace       TraceRL: the states of the sampler
    value       the same with a critic, whose learning rate is five times the policy's, as published
    coupled     a random mask of the response, and its complement
    random      a random mask of the response
    shrink2, 4  TraceRL with 2 or 4 neighbouring reveals as one; 4 is the whole block
    train8      TraceRL, written in blocks of 4 and trained in blocks of 8
    rollout8    TraceRL, written and trained in blocks of 8
    more_sft    no RL: as many CPU seconds of more SFT as `trace` took
    ..._slow    a third of the learning rate, which was chosen for TraceRL

Each (task, seed, variant) is one unit and leaves one JSON file in `--work`; a unit that has its file is
not run again. Accuracy is measured on the same held-out problems, one answer at temperature 1 each.
Compute is the CPU seconds of rollout and update, without evaluation.

Writes `benchmarks/results/methods.json` and `methods.svg`; `methods_report.py` explains them.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from methods_plot import draw
from methods_report import at_one_load, summarise, tables
from setting import (
    RESULTS,
    describe_machine,
    quickstart_config,
    train_quickstart_model,
    write_result,
)

from unmask.configs.methods.advantage.value import ValueAdvantage
from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig
from unmask.engine.build import build_llm
from unmask.evaluation.evaluate import evaluate
from unmask.runs.read import read_lines
from unmask.tasks.build import build_task
from unmask.trainers.quickstart import train_longer
from unmask.trainers.rl import train_rl


@dataclass(frozen=True, slots=True)
class Variant:
    """The changes of a variant in the quickstart's RL config.

    Attributes:
        overrides: `key=value` words.
        rate: what the learning rate is multiplied by.
    """

    overrides: tuple[str, ...] = ()
    rate: float = 1.0


COUPLED, RANDOM = ("views.kind=coupled",), ("views.kind=random",)
VARIANTS = {
    "trace": Variant(),
    "value": Variant(("advantage.kind=value", "advantage.minibatches=2")),
    "coupled": Variant(COUPLED),
    "random": Variant(RANDOM),
    "shrink2": Variant(("views.shrink=2",)),
    "shrink4": Variant(("views.shrink=4",)),
    "train8": Variant(("views.train_block=8",)),
    "rollout8": Variant(("sampling.block_size=8",)),
    "trace_slow": Variant(rate=1 / 3),
    "coupled_slow": Variant(COUPLED, rate=1 / 3),
    "random_slow": Variant(RANDOM, rate=1 / 3),
}
# The critic's learning rate over the policy's: published as 5e-6 over 1e-6.
VALUE_RATE = 5
BLOCKS = (4, 8)
MEASURED = ("accuracy", "tokens_per_denoising_step")


@dataclass(frozen=True, slots=True)
class Size:
    """The lengths of a task's runs.

    Attributes:
        steps: RL steps.
        every: steps between evaluations.
        problems: most held-out problems of an evaluation.
        sft: further overrides of the SFT config.
        rl: and of the RL config.
    """

    steps: int
    every: int
    problems: int
    sft: tuple[str, ...] = ()
    rl: tuple[str, ...] = ()


SIZES = {"chain_sum": Size(60, 10, 636), "mini_sudoku": Size(20, 5, 600, rl=("task.size=8000",))}
SMALL = ("task.size=400",)
SMOKE = {
    "chain_sum": Size(
        2, 1, 16, ("steps=2", *SMALL), ("rollout.prompts=4", "filter.drop_uniform=false", *SMALL)
    )
}


@dataclass(frozen=True, slots=True)
class Unit:
    """One run: the smallest thing that is done, or not."""

    task: str
    seed: int
    variant: str

    @property
    def name(self) -> str:
        """The name of its files."""
        return f"{self.task}-{self.seed}-{self.variant}"


def main() -> None:
    """Run what is not there yet, and report on what is."""
    arguments = read_arguments()
    torch.set_num_threads(1)
    if arguments.smoke:
        with tempfile.TemporaryDirectory() as place:
            run_and_report(SMOKE, [0], arguments.variants, Path(place), arguments.out)
        return
    sizes = {task: SIZES[task] for task in arguments.tasks}
    seeds = [] if arguments.report_only else arguments.seeds
    out = arguments.out or RESULTS / "methods.json"
    run_and_report(sizes, seeds, arguments.variants, arguments.work, out)


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ["sft", *VARIANTS, "more_sft"]
    parser.add_argument("--tasks", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--variants", nargs="+", choices=names, default=names)
    parser.add_argument("--work", type=Path, default=Path("runs/methods"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--report-only", action="store_true", help="run nothing")
    parser.add_argument(
        "--smoke", action="store_true", help="to see that it runs; says nothing else"
    )
    return parser.parse_args()


def run_and_report(
    sizes: Mapping[str, Size],
    seeds: Sequence[int],
    variants: Sequence[str],
    work: Path,
    out: Path | None,
) -> None:
    """Run the units that have no file yet, then write and print what all files in `work` amount to."""
    # Seed by seed: a run that is cut short still compares like with like.
    for unit in [Unit(t, s, v) for s in seeds for t in sizes for v in variants]:
        run_unit(unit, sizes[unit.task], work)
    runs = at_one_load(read_units(work))
    result = {
        "machine": describe_machine(),
        "settings": {task: asdict(size) for task, size in sizes.items()},
        "variants": {name: asdict(variant) for name, variant in VARIANTS.items()},
        **summarise(runs),
        "runs": runs,
    }
    write_result(out, result)
    if out is not None:
        out.with_suffix(".svg").write_text(draw(runs))
    print(tables(result))


def read_units(work: Path) -> list[dict[str, Any]]:
    """Return the results of the finished units."""
    return [json.loads(path.read_text()) for path in sorted(work.glob("units/*.json"))]


def run_unit(unit: Unit, size: Size, work: Path) -> None:
    """Run a unit and write its file, unless it is there."""
    out = work / "units" / f"{unit.name}.json"
    if out.exists():
        return
    start = starting_model(unit, size, work)
    directory = work / unit.name
    shutil.rmtree(directory, ignore_errors=True)  # of a run that was stopped
    config = rl_config(unit, size, directory, start)
    match unit.variant:
        case "sft":
            model = start
        case "more_sft":
            run_unit(replace(unit, variant="trace"), size, work)
            model = train_more(unit, size, work, directory)
        case _:
            model = train_rl(config)
    found = {**asdict(unit), **training_numbers(directory), "at_block": at_blocks(config, model)}
    write_result(out, found)
    if unit.variant != "sft":
        shutil.rmtree(model)  # what was learnt is measured; `metrics.jsonl` stays


def starting_model(unit: Unit, size: Size, work: Path) -> Path:
    """Return the SFT model that every variant of a task and seed starts from."""
    directory = work / f"{unit.task}-{unit.seed}"
    model = directory / "sft" / "model"
    if not model.is_dir():
        shutil.rmtree(directory, ignore_errors=True)
        train_quickstart_model(unit.task, directory, sft_overrides(unit, size))
    return model


def sft_overrides(unit: Unit, size: Size) -> list[str]:
    """Return the settings of a unit's SFT that differ from the quickstart's."""
    return [f"run.seed={unit.seed}", "model.device=cpu", *size.sft]


def rl_config(unit: Unit, size: Size, directory: Path, start: Path) -> RLConfig:
    """Return the config of a unit: the quickstart's, and what its variant changes."""
    variant = VARIANTS.get(unit.variant, Variant())
    overrides = [
        f"steps={size.steps}",
        f"run.seed={unit.seed}",
        f"eval.every={size.every}",
        f"eval.problems={size.problems}",
        "eval.split=test",
        "run.trajectories=0",
        "save_every=0",
        "model.device=cpu",
        *size.rl,
        *variant.overrides,
    ]
    config = quickstart_config(RLConfig, unit.task, directory, start, overrides)
    rate = variant.rate * config.optimizer.lr
    optimizer = config.optimizer.model_copy(update={"lr": rate})
    changed = config.model_copy(update={"optimizer": optimizer})
    if not isinstance(config.advantage, ValueAdvantage):
        return changed
    advantage = config.advantage.model_copy(update={"lr": VALUE_RATE * rate})
    return changed.model_copy(update={"advantage": advantage})


def train_more(unit: Unit, size: Size, work: Path, directory: Path) -> Path:
    """Go on with SFT for as long as TraceRL took, and return the model."""
    before = work / f"{unit.task}-{unit.seed}"
    sft = quickstart_config(
        SFTConfig, unit.task, before / "sft", before / "base", sft_overrides(unit, size)
    )
    train_longer(sft, work / replace(unit, variant="trace").name, directory)
    return directory / "model"


def training_numbers(directory: Path) -> dict[str, Any]:
    """Return the evaluations of an RL run, and the seconds and denoising steps spent before each.

    A run without rollouts has none.
    """
    lines = [line for line in read_lines(directory / "metrics.jsonl") if "reward" in line]
    curve: list[dict[str, float]] = []
    spent = {"rollout_cpu_s": 0.0, "update_cpu_s": 0.0, "denoising_steps": 0.0}
    for line in lines:
        steps = line["response_tokens"] / line["tokens_per_denoising_step"]
        spent = {name: spent[name] + (line | {"denoising_steps": steps})[name] for name in spent}
        if "eval_accuracy" in line:
            measured = {name: line[f"eval_{name}"] for name in MEASURED}
            curve.append({"step": line["step"], **measured, **spent})
    last = lines[-len(lines) // 3 :]
    return {
        "curve": curve,
        "last_third": {
            name: sum(line.get(name, 0.0) for line in last) / len(last)
            for name in ("reward", "groups_kept", "gradient_norm", "entropy", "clipped")
            if last
        },
    }


def at_blocks(config: RLConfig, model: Path) -> dict[str, dict[str, float]]:
    """Return how a model does on the held-out problems, sampled in blocks of each size."""
    llm = build_llm(config.model.model_copy(update={"path": str(model)}), config.engine)
    found: dict[str, dict[str, float]] = {}
    with closing(build_task(config.task)) as task:
        prompts = llm.tokenize(task.prompts("test")[: config.eval.problems])
        for block in BLOCKS:
            sampling = replace(config.sampling.to_params(), block_size=block)
            summary, _ = evaluate(llm, task, prompts, sampling, config.run.seed)
            found[str(block)] = {name: getattr(summary, name) for name in MEASURED}
    return found


if __name__ == "__main__":
    main()
