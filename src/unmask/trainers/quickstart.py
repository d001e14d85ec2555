"""The quickstart: a tiny model with random weights, SFT, TraceRL, and a fair comparison.

Only the size is small: the task is of the `reasoning_gym` package and graded by that package's
verifier, trainers and engine are those of large models, and the two configs can be run on their own.
For `chain_sum` demonstrations are few (`data.examples` of the SFT config) and prompts whose answers can be verified
are many; in the other tasks every training problem has its demonstration. The control of RL goes on with SFT on the
same demonstrations for the same CPU time, with early stopping: of its evaluations on validation prompts, those of the
first stage included, the model of the best is measured. SFT and TraceRL are measured after their last step.
"""

import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from unmask.checkpoints.checkpoint import save_model
from unmask.checkpoints.tokenizer import character_tokenizer, num_tokens
from unmask.configs.load import load_config
from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig
from unmask.configs.shipped import FOLDER
from unmask.engine.build import build_llm
from unmask.evaluation.evaluate import Summary, evaluate
from unmask.models.families import family_named
from unmask.models.transformer import Model, initialise
from unmask.runs.clock import Clock, Seconds, cpu_s
from unmask.runs.directory import move_aside
from unmask.runs.files import atomic_directory, write_json
from unmask.runs.read import read_lines
from unmask.tasks.build import build_task
from unmask.tasks.task import Task
from unmask.trainers.rl import train_rl
from unmask.trainers.sft import train_sft
from unmask.trainers.start import BEST, MODEL

# Width, layers and feed-forward width that learn each task in CPU minutes.
SHAPES = {"chain_sum": (64, 4, 192), "mini_sudoku": (96, 4, 256), "countdown": (96, 4, 256)}
C = TypeVar("C", SFTConfig, RLConfig)

# What is measured: directory, its name in the table, and the model: that of the last step, or for early
# stopping that of the best evaluation on validation prompts.
MODELS = {
    "sft": ("SFT", MODEL),
    "rl": ("then TraceRL", MODEL),
    "control": ("or more SFT", BEST),
}


def run_quickstart(task: str, seed: int, directory: Path) -> None:
    """Run the quickstart of a task, print its table, and write `summary.json`.

    Args:
        task: `chain_sum`, `mini_sudoku` or `countdown`.
        seed: every draw is derived from it.
        directory: where `base`, `sft`, `rl`, `control` and `summary.json` go; an earlier run is moved aside.
    """
    console = Console(stderr=True)
    moved = move_aside(directory)
    if moved:
        console.print(f"moved the earlier {directory} to {moved}")
    start, clock = time.perf_counter(), Clock()
    sft = _config(SFTConfig, "sft", task, directory, seed)
    rl = _config(RLConfig, "rl", task, directory, seed)
    make_base(sft, directory / "base", seed)
    with clock("sft"):
        train_sft(sft)
    with clock("rl"):
        train_rl(rl)
    with clock("control"):
        train_longer(sft, rl.run.dir, directory / "control")
    with clock("eval"), closing(build_task(rl.task)) as asked:
        found = {
            name: measure(rl, asked, directory / name / model)
            for name, (_, model) in MODELS.items()
        }
    stages = clock.stages | {"total": Seconds(time.perf_counter() - start, cpu_s())}
    summary = {
        **{name: model.to_dict() for name, model in found.items()},
        "cpu_s": {name: round(seconds.cpu, 1) for name, seconds in stages.items()},
        "wall_s": {name: round(seconds.wall, 1) for name, seconds in stages.items()},
        "seed": seed,
        "task": task,
    }
    write_json(directory / "summary.json", summary)
    Console(file=sys.stdout).print(_table(found, stages))
    console.print(f"everything is in {directory}; see {directory}/summary.json")


def _config(kind: type[C], name: str, task: str, directory: Path, seed: int) -> C:
    """Load a shipped config, with its paths moved under the quickstart's directory."""
    overrides = [
        f"run.dir={directory / name}",
        f"run.seed={seed}",
        f"model.path={directory / {'sft': 'base', 'rl': 'sft/model'}[name]}",
        "eval.problems=200",  # validation prompts: for the curves and the control's early stopping
        "model.device=cpu",  # the figures promised are a CPU's
    ]
    return load_config(kind, [shipped_config(name, task)], overrides)[0]


def shipped_config(kind: str, name: str) -> Path:
    """Return the path of a config that comes with unmask."""
    return FOLDER / kind / f"{name}.toml"


def make_base(config: SFTConfig, directory: Path, seed: int) -> None:
    """Write a checkpoint with random weights and a tokenizer of the task's characters."""
    task, tiny = build_task(config.task), family_named("sdar").tiny
    assert config.task is not None and task.alphabet is not None
    width, num_layers, ffn_width = SHAPES[config.task.name]
    num_heads = width // tiny.head_width
    with atomic_directory(directory) as place:
        vocab_size = num_tokens(character_tokenizer(task.alphabet, place))
        spec = replace(
            tiny,
            num_layers=num_layers,
            width=width,
            num_heads=num_heads,
            num_kv_heads=num_heads,
            ffn_width=ffn_width,
            vocab_size=vocab_size,
            num_drawable=vocab_size,
            max_length=512,
        )
        model = Model(spec)
        initialise(model, seed)
        save_model(model, place)


def measure(config: RLConfig, task: Task, model: Path) -> Summary:
    """Return the summary of a model on the held-out test problems, one answer each."""
    llm = build_llm(config.model.model_copy(update={"path": str(model)}), config.engine)
    prompts = llm.tokenize(task.prompts("test"))
    summary, _ = evaluate(llm, task, prompts, config.sampling.to_params(), seed=config.run.seed)
    return summary


def train_longer(sft: SFTConfig, rl_run: Path, directory: Path) -> None:
    """Go on with a finished SFT run for as much CPU time as an RL run took: the control of the comparison.

    It trains on the same demonstrations; `best/` is the model of its best evaluation, the finished run's included.

    Args:
        sft: config of the finished run; the run itself is left as it is.
        rl_run: directory of the RL run.
        directory: of the longer run.
    """
    per_step = training_cpu_s(sft.run.dir) / sft.steps
    more = max(1, round(training_cpu_s(rl_run) / per_step))
    shutil.copytree(sft.run.dir, directory)
    changes = {"steps": sft.steps + more, "run": sft.run.model_copy(update={"dir": directory})}
    train_sft(sft.model_copy(update=changes), resume=True)


def training_cpu_s(run: Path) -> float:
    """Return the CPU seconds a run spent on training: start-up, saving and evaluation left out."""
    parts = ("rollout_cpu_s", "reward_cpu_s", "update_cpu_s")
    return sum(line.get(part, 0.0) for line in read_lines(run / "metrics.jsonl") for part in parts)


def _table(found: Mapping[str, Summary], stages: Mapping[str, Seconds]) -> Table:
    count = found["sft"].n
    table = Table(
        title=f"held-out accuracy over {count} problems, one answer each",
        caption="more SFT: on the same demonstrations for the CPU time of RL, stopped early",
    )
    for heading in ("model", "accuracy", "95 % interval", "tokens / denoising step", "CPU s"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for name, summary in found.items():
        low, high = summary.ci95
        table.add_row(
            MODELS[name][0],
            f"{summary.accuracy:.1%}",
            f"{low:.1%} .. {high:.1%}",
            f"{summary.tokens_per_denoising_step:.2f}",
            f"{stages[name].cpu:.0f}",
        )
    return table
