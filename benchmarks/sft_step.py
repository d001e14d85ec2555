"""Useful tokens per second of SFT steps at GSM8K's lengths: packed, and in padded rows.

    python benchmarks/sft_step.py                    # some minutes on a quiet core
    python benchmarks/sft_step.py --device cuda --shape 1.7B --dtype bfloat16

Demonstrations of lengths drawn from the quantiles of `gsm8k_lengths.json` (prompt and response independently),
under fresh noise, are trained on in three layouts, with this package's model, head and objective, forward and
backward without the optimizer:

    packed        as the learner does (`diffusion/layout.py`)
    batches       batches of 16 in the order drawn, padded to their longest prompt and response
    longest       padded to the longest prompt and response of the data (published)

`block` has rows of prompt, clean and noisy response (`published_rows.py`), `full` of prompt and noisy response; the
head reads the targets alone in every layout. `useful` are the tokens of prompts and responses, counted once.
`padding` is the quotient of the tokens that are run, padded over packed: what the layout would gain if a token cost
the same in both. `speed` is the median over rounds of the quotient of the seconds; `share` is speed over padding,
at least 0.85 where packing has no cost of its own.

Writes `benchmarks/results/sft_step.json`, with the settings and the machine.
"""

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from published_rows import RowShape, lay_rows, rounds, shape_of
from rich.console import Console
from rich.table import Table
from setting import RESULTS, describe_machine, write_result
from shapes import SHAPES, VOCABULARY, model_spec, random_model
from update_cost import Layout, Run, seconds
from update_workloads import Pass, Workload, packed, score_targets

from unmask.configs.sft import SFTConfig
from unmask.diffusion.layout import Pack
from unmask.diffusion.noise import NoiseSchedule
from unmask.diffusion.views import views_of_responses
from unmask.trainers.losses import build_supervised_objective

LENGTHS = Path(__file__).parent / "gsm8k_lengths.json"
BATCH, BLOCK = 16, 4
BAR = 0.85


def drawn_lengths(count: int, seed: int) -> list[tuple[int, int]]:
    """Return lengths of prompts and responses, drawn between neighbouring quantiles."""
    table, rng = json.loads(LENGTHS.read_text()), random.Random(seed)

    def draw(quantiles: Sequence[int]) -> int:
        place = rng.random() * (len(quantiles) - 1)
        low = int(place)
        return round(quantiles[low] + (place - low) * (quantiles[low + 1] - quantiles[low]))

    return [(draw(table["prompt"]), draw(table["response"])) for _ in range(count)]


def workload(args: argparse.Namespace, block: int | None) -> Workload:
    """Return a model and one noisy view of every demonstration."""
    if args.shape:
        width, layers, changes = SHAPES[args.shape]
        vocabulary = VOCABULARY
    else:
        width, layers, changes, vocabulary = args.width, args.layers, {}, 2048
    spec = model_spec(width, layers, vocabulary, block, **changes)
    model = random_model(spec, 0, args.device, getattr(torch, args.dtype))
    rng = torch.Generator().manual_seed(args.seed)
    pairs = [
        tuple(torch.randint(2, 1000, (size,), generator=rng).tolist() for size in lengths)
        for lengths in drawn_lengths(args.count, args.seed)
    ]
    noise = NoiseSchedule(0.1, 0.9), 1
    views = views_of_responses([(p, r) for p, r in pairs], block, noise, range(len(pairs)))
    objective = build_supervised_objective(SFTConfig.model_validate({"model": {"path": "-"}}))
    return Workload(model, views, objective, args.budget)


def longest_shape(block: int) -> RowShape:
    """Return the padded lengths of the data's longest prompt and response; `block` is 0 under full attention."""
    table = json.loads(LENGTHS.read_text())
    return RowShape(
        *(-(-table[name][-1] // BLOCK) * BLOCK for name in ("prompt", "response")), block
    )


def padded(work: Workload, batch: int | None) -> Iterator[Pass]:
    """Yield rows in the order drawn: `batch` of them padded to their longest, or all to the longest of all."""
    everything = rounds(work.views)
    whole = longest_shape(0 if work.model.spec.is_full else BLOCK)
    for start in range(0, len(everything), BATCH):
        members = everything[start : start + BATCH]
        step = lay_rows(members, shape_of(members, work) if batch else whole, work)
        yield step._replace(pack=targets_only(step.pack), score=score_targets)


def targets_only(pack: Pack) -> Pack:
    """Return a pack that scores the targets alone, as the learner's does."""
    kept = pack.weights != 0
    names = ("rows", "targets", "weights", "advantages", "behavior_logprobs", "old_logprobs")
    return replace(pack, **{n: getattr(pack, n)[kept] for n in (*names, "temperatures")})


LAYOUTS: dict[str, Layout] = {
    "packed": packed,
    "batches": partial(padded, batch=BATCH),
    "longest": partial(padded, batch=None),
}


def measure(work: Workload, rounds_: int) -> dict[str, Any]:
    """Return tokens, seconds and quotients of the layouts, which run in turn."""
    tokens = {
        name: sum(step.pack.tokens.shape[0] for step in layout(work))
        for name, layout in LAYOUTS.items()
    }
    useful = sum(len(v.prompt_ids) + int((v.weight > 0)[0].sum()) for v in work.views)
    spent: dict[str, list[float]] = {name: [] for name in LAYOUTS}
    for _ in range(rounds_):
        for name, layout in LAYOUTS.items():
            spent[name].append(seconds(work, Run(layout)))
            work.model.zero_grad(set_to_none=True)
    found: dict[str, Any] = {"useful_tokens": useful}
    for name in LAYOUTS:
        speed = median(a / b for a, b in zip(spent[name], spent["packed"], strict=True))
        padding = tokens[name] / tokens["packed"]
        found[name] = {
            "tokens": tokens[name],
            "seconds": [round(value, 3) for value in spent[name]],
            "useful_tokens_per_s": round(useful / median(spent[name]), 1),
            "padding": round(padding, 3),
            "speed": round(speed, 3),
            "share": round(speed / padding, 3),
        }
    return found


def main() -> None:
    """Measure both kinds of attention, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=64, help="demonstrations of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--shape", choices=SHAPES, help="of a published model")
    parser.add_argument("--budget", type=int, default=8192, help="tokens of a pack")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a toy, to see that it runs")
    parser.add_argument("--out", type=Path, default=RESULTS / "sft_step.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.smoke:
        args.count, args.rounds, args.width, args.layers = 18, 1, 64, 1
    found = {
        name: measure(workload(args, block), args.rounds)
        for name, block in (("block", BLOCK), ("full", None))
    }
    columns = ("tokens", "useful_tokens_per_s", "padding", "speed", "share")
    table = Table("attention", "layout", *columns, title="SFT steps at GSM8K's lengths")
    for attention, result in found.items():
        for name in LAYOUTS:
            table.add_row(attention, name, *(str(result[name][key]) for key in columns))
    Console().print(table)
    settings = {key: value for key, value in vars(args).items() if key not in ("out", "smoke")}
    reached = {
        attention: min(result[name]["share"] for name in ("batches", "longest"))
        for attention, result in found.items()
    }
    print(f"bar: share >= {BAR}; lowest: {reached}")
    result = {"machine": describe_machine(), "settings": settings, "batch": BATCH, "block": BLOCK}
    write_result(args.out, {**result, "lowest_share": reached, "attention": found})


if __name__ == "__main__":
    main()
