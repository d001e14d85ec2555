"""Peak memory of whole processes: an update in the published layout, and in packs of several budgets.

    python benchmarks/update_memory.py                  # half an hour on a busy core
    python benchmarks/update_memory.py --workloads small --budgets auto 8192

Every line is a process of its own that loads the same random model, makes the same trajectories, and takes two
steps of AdamW on them with the learner; nothing else. `peak` is its `VmHWM`, under the allocator's usual
settings; `above state` is what is left without the libraries, weights, gradients and moments, which every layout
holds alike. `rows` is the published layout (`published_rows.py`): a padded row for each denoising round, one row a
pass under block-causal attention and two under full attention, as the published configs have it. Lines with
`checkpointed` recompute layers in the backward pass, rows too.

`CPU s` is the CPU time of the second step, the median over `--rounds` of turns in which the lines alternate; of
rows, every sixteenth pass is run and scaled up by tokens. `of fastest` compares packs alone.

Writes `benchmarks/results/update_memory.json`.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from plan_error import mib, status
from published_rows import rows
from rich.console import Console
from rich.table import Table
from setting import RESULTS, describe_machine, write_result
from shapes import model_spec, random_model
from torch import Tensor
from update_workloads import STEPS, Workload, draw_trajectory, lognormal_lengths

from unmask.configs.optimizer import OptimizerConfig
from unmask.configs.rl import RLConfig
from unmask.diffusion.views import views_of_trajectory
from unmask.models.feed_forward import FeedForward
from unmask.objectives.loss import LossOutput
from unmask.trainers.learner import Learner
from unmask.trainers.losses import build_policy_objective

# Width, layers, vocabulary, block, prompts, responses of each, mean lengths of prompt and response.
WORKLOADS: dict[str, tuple[int, int, int, int | None, int, int, int, int]] = {
    "smoke": (64, 1, 64, 4, 2, 2, 10, 20),
    "tiny": (128, 4, 512, 4, 8, 8, 20, 40),
    "short": (256, 8, 8192, 4, 2, 2, 100, 300),
    "small": (256, 8, 8192, 4, 4, 4, 100, 300),
    "small, full": (256, 8, 8192, None, 2, 4, 100, 300),
    "100M": (640, 12, 32_000, 4, 2, 4, 150, 500),
}
SHARE = 16


def build(name: str) -> tuple[Workload, int]:
    """Return an update, whose responses share prompts, and the published number of rows of a pass."""
    import random

    width, layers, vocabulary, block, prompts, responses, *means = WORKLOADS[name]
    model = random_model(model_spec(width, layers, vocabulary, block), 0, "cpu", torch.float32)
    rng, spec = random.Random(0), model.spec
    asked = lognormal_lengths(prompts, means[0], 0)
    lengths = lognormal_lengths(prompts * responses, means[1], 1)
    views = []
    for number, length in enumerate(lengths):
        group = number // responses
        drawn = draw_trajectory(rng, group, (asked[group], length), spec)
        same = random.Random(group)  # one prompt for all of a group
        ids = tuple(same.randrange(2, vocabulary) for _ in range(asked[group]))
        drawn = replace(drawn, prompt=replace(drawn.prompt, token_ids=ids))
        shrink = -(-max(drawn.step_map) // STEPS[-1]) if spec.is_full else 1
        views.append(
            views_of_trajectory(drawn, rng.choice((-1.0, 1.0)), shrink, is_full=spec.is_full)
        )
    objective = build_policy_objective(
        RLConfig.model_validate({"model": {"path": "-"}, "task": {"kind": "json"}})
    )
    return Workload(model, views, objective, 0), 2 if spec.is_full else 1


def run_child(name: str, layout: str, is_checkpointed: bool) -> None:
    """Take two steps in a layout, and print memory, seconds and tokens as JSON."""
    torch.set_num_threads(1)
    imported = status("VmRSS")
    work, batch = build(name)
    if layout == "rows":  # as published: all four tensors of the inner width are kept
        FeedForward.forward = lambda self, x: self._join(self.gate(x), self.up(x))
    work.model.backbone.gradient_checkpointing = is_checkpointed
    words = {} if layout in ("auto", "rows") else {"token_budget": int(layout)}
    learner = Learner(work.model, OptimizerConfig(**words))
    state = 4 * sum(p.nbytes for p in work.model.parameters())
    denominator = float(sum(int(v.target.sum()) for v in work.views))
    spent, tokens = 0.0, 0.0
    for _ in range(2):
        began = time.process_time()
        if layout == "rows":
            shares = _row_shares(work, batch, denominator)
            learner.minimise(shares, 0)
        else:
            update = learner.update(work.views, work.objective, denominator)
            tokens = update.values["packed_tokens"]
        spent = time.process_time() - began
    found = {
        "peak_mib": mib(status("VmHWM")),
        "above_state_mib": mib(status("VmHWM") - imported - state),
        "cpu_s": round(spent * (SHARE if layout == "rows" else 1), 2),
        "tokens": int(tokens),
    }
    sys.stdout.write(json.dumps(found) + "\n")


def _row_shares(
    work: Workload, batch: int, denominator: float
) -> Iterator[tuple[Tensor, LossOutput]]:
    """Yield the shares of the loss of every sixteenth pass of published rows."""
    longest = max(len(v.prompt_ids) for v in work.views), max(len(v.canvas_ids) for v in work.views)
    work = replace(work, token_budget=batch * (longest[0] + 2 * longest[1] + 8))
    if work.model.spec.is_full:
        work = replace(work, token_budget=batch * sum(longest))
    for number, step in enumerate(rows(work)):
        if number % SHARE == 0:
            output = work.objective(step.score(work.model, step), step.pack)
            yield (output.loss * step.pack.weights).sum() / denominator, output


def measure(name: str, lines: list[tuple[str, bool]], rounds: int) -> list[dict[str, Any]]:
    """Run the processes of a workload in turns."""
    found: dict[tuple[str, bool], list[dict[str, Any]]] = {line: [] for line in lines}
    for _ in range(rounds):
        for line in lines:
            child = [sys.executable, __file__, "--child", json.dumps([name, *line])]
            done = subprocess.run(child, capture_output=True, text=True, env=os.environ)
            if done.returncode:
                raise RuntimeError(done.stderr)
            found[line].append(json.loads(done.stdout))
    rows_of_table = []
    for (layout, is_checkpointed), runs in found.items():
        peak = max(run["peak_mib"] for run in runs)
        above = max(run["above_state_mib"] for run in runs)
        seconds = [run["cpu_s"] for run in runs]
        rows_of_table.append(
            {
                "layout": layout,
                "checkpointed": is_checkpointed,
                "peak_mib": peak,
                "above_state_mib": above,
                "cpu_s": median(seconds),
                "all_cpu_s": seconds,
                "tokens": runs[0]["tokens"],
            }
        )
    return rows_of_table


def show(name: str, found: list[dict[str, Any]]) -> None:
    """Print one workload's table."""
    table = Table(title=name)
    for heading in ("layout", "peak MiB", "above state", "CPU s", "tokens"):
        table.add_column(heading, justify="left" if heading == "layout" else "right")
    for row in found:
        label = row["layout"] + (", checkpointed" if row["checkpointed"] else "")
        table.add_row(
            label,
            f"{row['peak_mib']:.0f}",
            f"{row['above_state_mib']:.0f}",
            f"{row['cpu_s']:.2f}",
            f"{row['tokens']:,}",
        )
    Console(width=100).print(table)


def main() -> None:
    """Measure every workload, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=[*WORKLOADS][1:])
    parser.add_argument("--budgets", nargs="+", default=["rows", "auto", "8192"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--checkpointed", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--out", type=Path, default=RESULTS / "update_memory.json")
    args = parser.parse_args()
    if args.child:
        run_child(*json.loads(args.child))
        return
    result: dict[str, Any] = {"machine": describe_machine(), "workloads": {}}
    for name in args.workloads:
        lines = [(layout, bool(own)) for own in args.checkpointed for layout in args.budgets]
        found = measure(name, lines, args.rounds)
        show(name, found)
        result["workloads"][name] = found
        write_result(args.out, result)


if __name__ == "__main__":
    main()
