"""Methods of SFT at equal forwarded tokens, for block-causal and for full attention.

    python benchmarks/sft_methods.py                 # minutes of one core; the JSON states them
    python benchmarks/sft_methods.py --seeds 0 --steps 20

For each attention a tiny model is trained on the quickstart's sums by `random` for `--start` steps (cosine). It then
writes the trajectories of `--demonstrations` right answers, forced to their tokens (`unmask trace`), and every
method goes on from it, on these same demonstrations, for as many forwarded tokens as `--steps` steps of `random`
take. A seed draws the order, the noise and the answers of these runs; the model they start from is one. Settings are
those of the quickstart's SFT, at `--lr` and with a cosine after the start; nothing was tuned for any method.

    random         block-causal: one noise level per block, all blocks in one pass; full: one per response
    semi_ar        full attention: blocks of 4 in order (under block-causal attention it is `random`)
    trace          the states of the recorded trajectory
    left_to_right  block-causal: blocks of one token

`accuracy` is of `--problems` held-out problems, one answer each at temperature 1 by the default sampler; `tokens/step`
are those that a denoising step reveals. An interval is 95 % of the mean over seeds (Student's t); `ahead` is the
difference to `random` at the same seed, with its interval. One that holds 0 decides nothing. Other starts may differ
by more than the intervals, which are over the seeds of one.

Writes `benchmarks/results/sft_methods.json` and `sft_methods.svg`, with the settings and the machine.
"""

import argparse
import re
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time
from typing import Any

import torch
from intervals import mean_and_half
from rich.console import Console
from rich.table import Table
from setting import RESULTS, describe_machine, write_result

from unmask.checkpoints.checkpoint import save_model
from unmask.checkpoints.tokenizer import character_tokenizer, num_tokens
from unmask.configs.load import load_config
from unmask.configs.sft import SFTConfig
from unmask.engine.build import build_llm
from unmask.evaluation.evaluate import evaluate
from unmask.models.families import family_named
from unmask.models.transformer import Model, initialise
from unmask.runs.files import atomic_directory
from unmask.runs.read import read_lines
from unmask.sampling_params import SamplingParams
from unmask.tasks.build import build_task
from unmask.trainers.quickstart import shipped_config
from unmask.trainers.sft import train_sft
from unmask.trainers.traces import write_traces

TASK = "chain_sum"
FAMILIES = {"block": "sdar", "full": "llada"}
STARTS = {"block": 500, "full": 1500}  # full attention learns the task in more steps
METHODS: dict[str, dict[str, tuple[str, ...]]] = {
    "block": {
        "random": (
            "views.kind=random",
            "views.count=2",
        ),
        "trace": ("views.kind=trace",),
        "left_to_right": ("views.kind=left_to_right",),
    },
    "full": {
        "random": ("views.kind=random", "views.count=2", "data.canvas_tokens=10"),
        "semi_ar": ("views.kind=semi_ar", "views.train_block=4", "data.canvas_tokens=10"),
        "trace": ("views.kind=trace", "data.canvas_tokens=10"),
    },
}
COLOURS = {
    "random": "#4477aa",
    "semi_ar": "#ee6677",
    "trace": "#228833",
    "left_to_right": "#aa8833",
}


def make_base(config: SFTConfig, family: str, directory: Path) -> None:
    """Write random weights of a family in the quickstart's size, with a tokenizer of the task's characters."""
    task, tiny = build_task(config.task), family_named(family).tiny
    with atomic_directory(directory) as place, closing(task):
        assert task.alphabet is not None
        size = num_tokens(character_tokenizer(task.alphabet, place))
        heads = 64 // tiny.head_width
        spec = replace(
            tiny, num_layers=4, width=64, num_heads=heads, num_kv_heads=heads, ffn_width=192
        )
        model = Model(replace(spec, vocab_size=size, num_drawable=size, max_length=512))
        initialise(model, config.run.seed)
        save_model(model, place)


def config_of(
    directory: Path, model: Path, args: argparse.Namespace, seed: int, *words: str
) -> SFTConfig:
    """Return the quickstart's SFT with other views, for a run of this benchmark."""
    text = shipped_config("sft", TASK).read_text()
    file = directory.with_suffix(".toml")
    file.parent.mkdir(parents=True, exist_ok=True)
    # Without its table of views, whose keys other kinds do not have, and on all demonstrations.
    text = re.sub(r"\[views\]\n(?:.+\n)*", "", text)
    file.write_text(re.sub(r"(?m)^examples = .*\n", "", text))
    shared = [f"run.dir={directory}", f"model.path={model}", f"run.seed={seed}", "eval.problems=0"]
    shared += [f"data.batch_size={args.batch}", "model.device=cpu", "save_every=0"]
    return load_config(SFTConfig, [file], [*shared, *words])[0]


def trained_tokens(run: Path) -> int:
    """Return the tokens that a run has forwarded."""
    return round(sum(line.get("packed_tokens", 0) for line in read_lines(run / "metrics.jsonl")))


@dataclass(frozen=True)
class Start:
    """The model that all runs of an attention start from.

    Attributes:
        model: its directory.
        traces: its trajectories of right answers.
        config: of its training.
    """

    model: Path
    traces: Path
    config: SFTConfig


def make_start(attention: str, args: argparse.Namespace, place: Path) -> Start:
    """Train the start of an attention and record its trajectories."""
    base, traces = place / "base", place / "traces.jsonl"
    words = METHODS[attention]["random"]
    words = (*words, f"steps={args.start or STARTS[attention]}", "optimizer.schedule=cosine")
    config = config_of(place / "start", base, args, 0, *words)
    make_base(config, FAMILIES[attention], base)
    model = train_sft(config)
    assert config.task is not None
    few = config.task.model_copy(update={"size": args.demonstrations})
    recording = config_of(place / "t", model, args, 0, "eval.sampling.strategy=static")
    write_traces(recording.model_copy(update={"task": few}), traces)
    return Start(model, traces, config)


def run_seed(
    attention: str, seed: int, start: Start, args: argparse.Namespace, place: Path
) -> dict[str, Any]:
    """Train every method from the start, and measure each."""
    found = {"start": measure(start.model, start.config, args.problems, seed)}
    budget = 0
    for method, words in METHODS[attention].items():
        shared = [*words, f"data.path={start.traces}", "optimizer.warmup_steps=5"]
        shared += [f"optimizer.lr={args.lr}", "optimizer.schedule=cosine"]
        per_step = 0.0
        if budget:  # three steps tell how many take as many tokens
            probe = config_of(
                place / f"{method}-probe", start.model, args, seed, *shared, "steps=3"
            )
            train_sft(probe)
            per_step = trained_tokens(probe.run.dir) / 3
        steps = max(1, round(budget / per_step)) if budget else args.steps
        config = config_of(place / method, start.model, args, seed, *shared, f"steps={steps}")
        model = train_sft(config)
        tokens = trained_tokens(config.run.dir)
        budget = budget or tokens
        measured = measure(model, config, args.problems, seed)
        found[method] = {**measured, "steps": steps, "tokens": tokens}
        print(attention, seed, method, found[method], flush=True)
    return found


def measure(model: Path, config: SFTConfig, problems: int, seed: int) -> dict[str, Any]:
    """Return accuracy and tokens per denoising step on held-out problems."""
    llm = build_llm(config.model.model_copy(update={"path": str(model)}), config.engine)
    with closing(build_task(config.task)) as task:
        prompts = llm.tokenize(task.prompts("test"))[:problems]
        summary, _ = evaluate(llm, task, prompts, SamplingParams(max_tokens=10), seed=seed)
    rate = round(summary.tokens_per_denoising_step, 3)
    return {"accuracy": summary.accuracy, "tokens_per_denoising_step": rate}


def summarise(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Return means, and half of their 95 % intervals, over seeds."""
    found: dict[str, Any] = {}
    for attention, seeds in runs.items():
        for name in seeds[0]:
            accuracies = [seed[name]["accuracy"] for seed in seeds]
            ahead = [seed[name]["accuracy"] - seed["random"]["accuracy"] for seed in seeds]
            rates = [seed[name]["tokens_per_denoising_step"] for seed in seeds]
            found.setdefault(attention, {})[name] = {
                "accuracy": mean_and_half(accuracies),
                "ahead": mean_and_half(ahead),
                "tokens_per_denoising_step": sum(rates) / len(rates),
                "tokens": [seed[name].get("tokens", 0) for seed in seeds],
            }
    return found


def picture(summary: Mapping[str, Any]) -> str:
    """Return an SVG: accuracy of each method, a bar with its interval."""
    rows = [(a, m, r) for a, of in summary.items() for m, r in of.items() if m != "start"]
    lines = ['<svg xmlns="http://www.w3.org/2000/svg" width="560" '
             f'height="{30 + 24 * len(rows)}" font-family="sans-serif" font-size="12">']  # fmt: skip
    lines.append(
        '<text x="8" y="16">accuracy at equal forwarded tokens, mean and 95 % interval</text>'
    )
    for place, (attention, method, row) in enumerate(rows):
        y, (mean, half) = 30 + 24 * place, row["accuracy"]
        low, high = (180 + 340 * min(max(mean + s * (half or 0), 0), 1) for s in (-1, 1))
        lines += [
            f'<text x="8" y="{y + 13}">{attention}, {method}</text>',
            f'<rect x="180" y="{y}" width="{340 * mean:.1f}" height="16" fill="{COLOURS[method]}"/>',
            f'<path d="M{low:.1f} {y + 8}H{high:.1f}" stroke="black" stroke-width="2"/>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"


def show(summary: Mapping[str, Any]) -> None:
    """Print the table."""
    columns = ("accuracy", "ahead of random", "tokens / step")
    table = Table("attention", "method", *columns, title="SFT at equal forwarded tokens")
    for attention, rows in summary.items():
        for name, row in rows.items():
            cells = [f"{m:+.1%} ± {h or 0:.1%}" for m, h in (row["accuracy"], row["ahead"])]
            table.add_row(attention, name, *cells, f"{row['tokens_per_denoising_step']:.2f}")
    Console().print(table)


def main() -> None:
    """Run every seed, print the table, write JSON and picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--attention", nargs="+", choices=METHODS, default=[*METHODS])
    parser.add_argument("--start", type=int, help="steps of the model all start from: `STARTS`")
    parser.add_argument("--steps", type=int, default=60, help="steps of `random` after it")
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--demonstrations", type=int, default=600)
    parser.add_argument("--lr", type=float, default=5e-4, help="learning rate after the start")
    parser.add_argument("--problems", type=int, default=400, help="held-out problems")
    parser.add_argument("--smoke", action="store_true", help="a toy, to see that it runs")
    parser.add_argument("--out", type=Path, default=RESULTS / "sft_methods.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.smoke:
        args.seeds, args.start, args.steps, args.batch, args.demonstrations = [0], 2, 2, 8, 40
        args.problems = 8
    with tempfile.TemporaryDirectory() as work:
        runs: dict[str, list[dict[str, Any]]] = {}
        for attention in args.attention:
            place = Path(work) / attention
            start = make_start(attention, args, place)
            runs[attention] = [
                run_seed(attention, seed, start, args, place / str(seed)) for seed in args.seeds
            ]
    summary = summarise(runs)
    show(summary)
    settings = {key: value for key, value in vars(args).items() if key not in ("out", "smoke")}
    result: dict[str, Any] = {"machine": describe_machine(), "settings": settings, "task": TASK}
    result["cpu_seconds"] = round(process_time())
    write_result(args.out, {**result, "summary": summary, "runs": runs})
    args.out.with_suffix(".svg").write_text(picture(summary))


if __name__ == "__main__":
    main()
