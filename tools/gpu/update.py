"""A TraceRL update in the packed layout against one padded row per denoising round, on random weights.

Forward and backward of one trajectory with gradient checkpointing, without the optimizer, which is the same
for both: what `benchmarks/tracerl_update.py` measures, with passes of the size of one trajectory. The rows are
this package's (`benchmarks/published_rows.py`), not the published repository's own code.
"""

from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from shapes import drawn_model, sdar_spec
from update_cost import RUNS, count_work, gradient_difference, peak_mib, seconds
from update_workloads import Workload, drawn

from tools.gpu.measure import parameters, prepare, rounded
from tools.gpu.part import Outcome, Setting
from unmask.diffusion.layout import DEAD_COPY, pack_views
from unmask.models.attention import round_up
from unmask.models.conventions import conventions_of

# Difference of the whole gradient from that of rows, relative.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2}
TINY_LENGTHS, SHORT_LENGTHS = (24, 48), (120, 256)
# Below this, half of the response: rows take 60 GiB of logits at 1,024 + 8,192 tokens.
WHOLE_MEMORY = 120 * 2**30


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured.

    Attributes:
        shape: of `shapes.SHAPES`.
        lengths: tokens of prompt and response.
        rounds: how often layouts run in turn.
        share: of the passes of rows, every how many-th is run in a round.
        bar: least quotient of seconds, rows over packed, of issue 15.
        memory_bar: greatest quotient of peak memory, packed over rows.
    """

    shape: str
    lengths: tuple[int, int]
    rounds: int
    share: int
    bar: float = 0.0
    memory_bar: float = 0.4


def build(setting: Setting, case: Case) -> Workload:
    """Return one trajectory under random weights, and passes that hold it exactly."""
    device, is_tiny = setting.device, setting.is_tiny
    num_prompt, num_response = TINY_LENGTHS if is_tiny else case.lengths
    if device.type == "cuda" and torch.cuda.mem_get_info(device)[1] < WHOLE_MEMORY:
        num_response //= 2
    dtype = torch.float32 if is_tiny else torch.bfloat16
    model = drawn_model(sdar_spec(case.shape, is_tiny), device, dtype)
    model.backbone.gradient_checkpointing = True
    lengths = (num_prompt, num_response)
    whole = drawn(model, [lengths], lengths, 2**20, seed=0)
    (pack,) = pack_views(whole.views, conventions_of(model), whole.token_budget)
    return replace(whole, token_budget=round_up(pack.tokens.shape[0], DEAD_COPY))


def measure(setting: Setting, case: Case) -> dict[str, Any]:
    """Return seconds, peaks and counts of both layouts, and their quotients."""
    prepare(setting.device)
    work = build(setting, case)
    short = TINY_LENGTHS if setting.is_tiny else SHORT_LENGTHS
    checked = drawn(work.model, [short], short, work.token_budget, seed=1)
    difference = gradient_difference(checked)  # also compiles the kernel of a pack
    peaks = {name: peak_mib(work, RUNS[name].layout) for name in ("rows", "packed")}
    held = 2 * sum(p.numel() * p.element_size() for p in work.model.parameters()) / 2**20
    times: dict[str, list[float]] = {"rows": [], "packed": [], "old pass": []}
    for turn in range(case.rounds):
        for name, found in times.items():
            work.model.zero_grad(set_to_none=True)
            share = 1 if name == "packed" else case.share
            found.append(seconds(work, RUNS[name], share, turn))
    work.model.zero_grad(set_to_none=True)
    (views,) = work.views
    own = {name: median(found) for name, found in times.items()}
    return {
        "settings": {
            "shape": case.shape,
            "parameters": parameters(work.model),
            "dtype": str(work.model.dtype).removeprefix("torch."),
            "prompt_tokens": len(views.prompt_ids),
            "canvas_tokens": len(views.canvas_ids),
            "rounds_of_trajectory": len(views.target),
            "token_budget": work.token_budget,
            "share": case.share,
            "gradient_checkpointing": True,
            "optimizer": "none",
        },
        "seconds": times,
        "ratio": own["rows"] / own["packed"],
        "ratio_with_old_pass": (own["rows"] + own["old pass"]) / own["packed"],
        "peak_mib": peaks,
        "weights_and_gradients_mib": held,
        "peak_ratio": peaks["packed"] / peaks["rows"],
        "whole_peak_ratio": (held + peaks["packed"]) / (held + peaks["rows"]),
        "counts": {name: count_work(work, RUNS[name].layout)._asdict() for name in peaks},
        "gradient_difference": difference,
        "tolerance": TOLERANCE[work.model.dtype],
    }


def outcome_of(setting: Setting, case: Case) -> Outcome:
    """Measure a case; it fails if gradients differ, and at full size below the bars."""
    found = measure(setting, case)
    holds = found["gradient_difference"] <= found["tolerance"]
    reaches = found["ratio"] >= case.bar and found["peak_ratio"] <= case.memory_bar
    seconds_of = {name: median(times) for name, times in found["seconds"].items()}
    summary = (
        f"rows {seconds_of['rows']:.2f} s, packed {seconds_of['packed']:.2f} s: {found['ratio']:.1f}x "
        f"({found['ratio_with_old_pass']:.1f}x with the old pass), peak {found['peak_ratio']:.0%} of rows', "
        f"gradient differs by {found['gradient_difference']:.0e}"
    )
    return Outcome(summary, holds and (setting.is_tiny or reaches), rounded(found))
