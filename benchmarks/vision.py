"""A tiny model that learns to see: accuracy on held-out pictures after SFT, then TraceRL, and of the control, by seed.

    python benchmarks/vision.py --seeds 0 1 2            # a few CPU minutes a seed
    python benchmarks/vision.py --task digits

The model is what `unmask init --family lladav` writes; its configs are `configs/{sft,rl}/vision_TASK.toml`. SFT has few
pictures with their answers, TraceRL many pictures whose answers are only graded. The control goes on with SFT on the
same few for the CPU time of RL, with early stopping. Measured on the test pictures, which share none with training,
one answer each at temperature 1. The run fails unless RL gains 15 points over SFT with disjoint 95 % intervals at
every seed.

Writes `benchmarks/results/vision.json`, or that of `--out`.
"""

import argparse
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console
from setting import RESULTS, describe_machine, write_result

from unmask.checkpoints.random_init import init
from unmask.configs.load import load_config
from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig
from unmask.configs.task import PictureTaskConfig
from unmask.tasks.build import build_task
from unmask.tasks.picture_task import guessing
from unmask.trainers.quickstart import (
    MODELS,
    measure,
    shipped_config,
    train_longer,
    training_cpu_s,
)
from unmask.trainers.rl import train_rl
from unmask.trainers.sft import train_sft

LEAST_GAIN = 0.15
SMOKE = ("task.size=60", "steps=2", "eval.every=1", "eval.problems=4")


def main() -> None:
    """Run every seed, print the table, write the JSON, and fail if a seed misses the bar."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", default="counting")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--smoke", action="store_true", help="two steps, to see that it runs")
    arguments = parser.parse_args()
    words = SMOKE if arguments.smoke else ()
    seeds = arguments.seeds[:1] if arguments.smoke else arguments.seeds
    name = "vision" if arguments.task == "counting" else f"vision-{arguments.task}"
    out = arguments.out or (None if arguments.smoke else RESULTS / f"{name}.json")
    runs = [run(arguments.task, seed, words) for seed in seeds]
    task = load_config(SFTConfig, [shipped_config("sft", f"vision_{arguments.task}")], [])[0].task
    assert isinstance(task, PictureTaskConfig)
    result = {
        "machine": describe_machine(),
        "command": f"python benchmarks/vision.py --task {arguments.task} --seeds {' '.join(map(str, seeds))}",
        "guessing": guessing(task),
        "runs": runs,
    }
    write_result(out, result)
    console = Console()
    for one in runs:
        console.print(_row(one), soft_wrap=True)
    if not arguments.smoke and not all(one["reaches_the_bar"] for one in runs):
        raise SystemExit(f"a seed gained less than {LEAST_GAIN:.0%}, or its intervals overlap")


def run(task: str, seed: int, words: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the summaries of one seed: of SFT, RL and the control, with their CPU seconds.

    Args:
        task: its configs are `vision_TASK.toml`.
        seed: of the weights and of the runs.
        words: more `key=value` words for both configs.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        given = (f"run.seed={seed}", "model.device=cpu", *words)
        paths = (f"run.dir={folder / 'sft'}", f"model.path={folder / 'base'}")
        sft_file, rl_file = (shipped_config(kind, f"vision_{task}") for kind in ("sft", "rl"))
        sft, _ = load_config(SFTConfig, [sft_file], [*paths, *given])
        paths = (f"run.dir={folder / 'rl'}", f"model.path={folder / 'sft' / 'model'}")
        rl, _ = load_config(RLConfig, [rl_file], [*paths, *given])
        init(folder / "base", "lladav", seed=seed)
        train_sft(sft)
        train_rl(rl)
        train_longer(sft, folder / "rl", folder / "control")
        with closing(build_task(rl.task)) as asked:
            found = {
                name: measure(rl, asked, folder / name / model)
                for name, (_, model) in MODELS.items()
            }
        gain = found["rl"].accuracy - found["sft"].accuracy
        return {
            "seed": seed,
            "demonstrations": sft.data.examples,
            **{name: summary.to_dict() for name, summary in found.items()},
            "gain": gain,
            "reaches_the_bar": gain >= LEAST_GAIN and found["sft"].ci95[1] < found["rl"].ci95[0],
            "training_cpu_s": {name: round(training_cpu_s(folder / name), 1) for name in MODELS},
        }


def _row(one: dict[str, Any]) -> str:
    """Return a row of the table: seed, accuracies with their intervals, CPU seconds."""
    shares = [
        f"{one[name]['accuracy']:.1%} ({one[name]['ci95'][0]:.1%} .. {one[name]['ci95'][1]:.1%})"
        for name in MODELS
    ]
    seconds = ", ".join(f"{one['training_cpu_s'][name]:.0f}" for name in MODELS)
    return f"| {one['seed']} | {' | '.join(shares)} | {seconds} |"


if __name__ == "__main__":
    main()
