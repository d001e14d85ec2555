"""The packed layout against one padded row per denoising round: same trajectories, same gradient.

    python benchmarks/tracerl_update.py              # about four minutes on one core
    python benchmarks/tracerl_update.py --workloads lengths --repeats 5

TraceRL scores every token given what was revealed when it was. The published code
(arXiv 2509.06949) lays a trajectory out as rows, one for each round k: the k-th reveal of every
block at once,

    [ prompt | clean response | noisy response ]      L0 + 2 * L1 tokens

padded to the longest prompt and response of the batch, under a dense mask, with logits at the whole
noisy copy. unmask packs one clean copy and the noisy *blocks* that carry a target
(`diffusion/layout.py`). Both are run here with this package's model, objective and attention, on
blocks that start at absolute position 0, forward and backward of one update without the optimizer.
The rows get what costs nothing: batches of them under the same token budget, one mask for the whole
batch, no gather in attention. The published pass without gradient over all rows, for the old
log-probabilities, is left out; it would add about a third to the rows.

    rows               as published
    rows, sorted       the same, sorted by length and padded to the longest of their pass only
    packed             `pack_views`, as the learner calls it
    packed, unsorted   trajectories in the order they came
    packed, own prompt every answer lays its prompt out again

Workloads: `chain_sum`, the trajectories that one RL step of the quickstart trains on; `lengths`,
drawn at realistic lengths, for a model of realistic proportions that a core can train.

Reading the table: layouts run in turn, and `speed` is the median over rounds of the quotient rows /
layout of CPU seconds (the JSON also has wall, and the range). At `lengths` only `rows` and `packed`
run in every round, the others in the first. `tokens` and `TFLOP` are counted,
not measured: matrix products of layers and head, and the query-key pairs that attention computes,
masked or not. Where `speed` is below the quotient of TFLOP, the layout loses to overhead. `layout`
is the share of its seconds that goes to building it. `gradient` is the relative difference of the
whole gradient to that of `rows`; above 1e-5 the program fails. `peak` is what an update adds to
resident memory (Linux).

Writes `benchmarks/results/tracerl_update.json`, with the settings and the machine.
"""

import argparse
import ctypes
import gc
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from setting import (
    RESULTS,
    describe_machine,
    quickstart_config,
    train_quickstart_model,
    write_result,
)
from torch import Tensor

from unmask.configs.objective import ObjectiveConfig
from unmask.configs.rl import RLConfig
from unmask.diffusion.layout import Document, Pack, assemble, lay_out, pack_views
from unmask.diffusion.views import Views, views_of_trajectory
from unmask.engine.build import build_llm
from unmask.engine.engine import conventions_of
from unmask.models.attention import Attend, attend_rows, sees
from unmask.models.heads import Targets
from unmask.models.spec import ModelSpec
from unmask.models.tiles import plan_documents
from unmask.models.transformer import Model, initialise
from unmask.rollouts.collect import grade_trajectories, write_trajectories
from unmask.rollouts.filters import is_kept
from unmask.tasks.build import build_task
from unmask.trainers.learner import Objective
from unmask.trainers.rl import trajectory_views
from unmask.trainers.terms import build_policy_terms
from unmask.types import Prompt, SamplingParams, Trajectory

TOLERANCE = 1e-5  # of the whole gradient, in fp32


@dataclass(frozen=True, slots=True)
class Workload:
    """One update: what is trained, on what.

    Attributes:
        name: of the workload.
        model: the weights.
        views: the trajectories' views; the same for every layout.
        objective: scores and pack to per-target terms.
        token_budget: most tokens of a forward and backward pass.
    """

    name: str
    model: Model
    views: Sequence[Views]
    objective: Objective
    token_budget: int

    @property
    def mask_id(self) -> int:
        """Return what hidden tokens read."""
        return self.model.spec.require_mask_id()


class Pass(NamedTuple):
    """One forward and backward pass: what goes in, and how many query-key pairs attention computes."""

    pack: Pack
    attend: Attend
    num_pairs: int


Layout = Callable[[Workload], Iterator[Pass]]


# --- packed ---------------------------------------------------------------------------------------


def packed(work: Workload) -> Iterator[Pass]:
    """Lay an update out as the learner does."""
    yield from map(plan, pack_views(work.views, conventions_of(work.model), work.token_budget))


def packed_unsorted(work: Workload) -> Iterator[Pass]:
    """Pack the trajectories in the order they came, still with shared prompts."""
    yield from pack_in_order(documents(work), work)


def packed_own_prompt(work: Workload) -> Iterator[Pass]:
    """Pack sorted trajectories that share nothing."""
    alone = [with_own_prompt(document) for document in documents(work)]
    yield from pack_in_order(sorted(alone, key=lambda document: document.num_tokens), work)


def documents(work: Workload) -> list[Document]:
    """Lay every trajectory out by itself."""
    conventions = conventions_of(work.model)
    return [
        document
        for number, views in enumerate(work.views)
        for document in lay_out(number, views, conventions, work.token_budget)
    ]


def pack_in_order(members: Sequence[Document], work: Workload) -> Iterator[Pass]:
    """Fill passes up to the budget, in order, as if no prompt were shared."""
    start, used = 0, 0
    for end, document in enumerate(members):
        if end > start and used + document.num_tokens > work.token_budget:
            yield plan(assemble(members[start:end], work.views))
            start, used = end, 0
        used += document.num_tokens
    yield plan(assemble(members[start:], work.views))


def with_own_prompt(document: Document) -> Document:
    """Return the document with its prompt in its own clean copy."""
    length = document.prefix_ids.shape[0]
    positions = torch.cat((torch.arange(length), document.positions))
    return replace(
        document,
        prefix_ids=document.prefix_ids[:0],
        tokens=torch.cat((document.prefix_ids, document.tokens)),
        positions=positions,
        blocks=positions // document.block,
        copies=F.pad(document.copies, (length, 0)),
        rows=document.rows + length,
    )


def plan(pack: Pack) -> Pass:
    """Plan a pack's attention."""
    attend = plan_documents(pack.structure)
    return Pass(pack, attend, sum(mask.numel() for mask in attend.masks))


# --- rows -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RowAttend:
    """Dense attention within rows that stand side by side: `mask (B, 1, N, N)`."""

    mask: Tensor

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend within rows; nothing is gathered, because every row has the same length."""
        shape = (self.mask.shape[0], self.mask.shape[-1])
        q, k, v = (x.unflatten(0, shape) for x in (q, k, v))
        return attend_rows(q, k, v, self.mask).flatten(0, 1)


class RowShape(NamedTuple):
    """The padded lengths of a batch: `L0` of whole prompt blocks, `L1` of the rest, and the grid."""

    prompt: int
    response: int
    block: int

    @property
    def length(self) -> int:
        """Return the tokens of a row."""
        return self.prompt + 2 * self.response


class Row(NamedTuple):
    """One round of one trajectory."""

    trajectory: int
    view: int


def rows(work: Workload) -> Iterator[Pass]:
    """Lay an update out as published: rows in order, all padded to the longest of the batch."""
    everything = rounds(work.views)
    shape = shape_of(everything, work.views)
    count = max(1, work.token_budget // shape.length)
    for start in range(0, len(everything), count):
        yield lay_rows(everything[start : start + count], shape, work)


def rows_sorted(work: Workload) -> Iterator[Pass]:
    """Sort rows by length, and pad them to the longest of their pass."""
    waiting = sorted(rounds(work.views), key=lambda row: shape_of([row], work.views).length)
    while waiting:
        count = 1
        while count < len(waiting):
            length = shape_of(waiting[: count + 1], work.views).length
            if (count + 1) * length > work.token_budget:
                break
            count += 1
        yield lay_rows(waiting[:count], shape_of(waiting[:count], work.views), work)
        waiting = waiting[count:]


def rounds(views: Sequence[Views]) -> list[Row]:
    """Return every round of every trajectory: a view stands at the k-th reveal of all its blocks."""
    return [Row(number, view) for number, v in enumerate(views) for view in range(len(v.target))]


def shape_of(members: Sequence[Row], views: Sequence[Views]) -> RowShape:
    """Return the padded lengths of some rows."""
    found = [views[number] for number in dict.fromkeys(row.trajectory for row in members)]
    offsets = [v.prompt_ids.shape[0] % v.block for v in found]
    return RowShape(
        max(v.prompt_ids.shape[0] - offset for v, offset in zip(found, offsets, strict=True)),
        max(v.canvas_ids.shape[0] + offset for v, offset in zip(found, offsets, strict=True)),
        found[0].block,
    )


def lay_rows(members: Sequence[Row], shape: RowShape, work: Workload) -> Pass:
    """Lay rows side by side; every slot of the noisy copy is scored, and counts where it is a target."""
    batch, length = len(members), shape.length
    tokens = torch.zeros(batch, length, dtype=torch.int64)
    positions = torch.zeros_like(tokens)
    is_token = torch.ones(batch, length, dtype=torch.bool)
    scored = {name: torch.zeros(batch, shape.response) for name in ("weights", "advantages")}
    for name in ("behavior_logprobs", "old_logprobs"):
        scored[name] = torch.zeros(batch, shape.response, dtype=torch.float64)
    drawable = int(work.model.head.drawable.nonzero()[0])  # any id whose log-probability is finite
    targets = torch.full((batch, shape.response), drawable)
    temperatures = torch.ones(batch, shape.response, dtype=torch.float64)
    for place, (number, view) in enumerate(members):
        v = work.views[number]
        num_prompt, num_canvas = v.prompt_ids.shape[0], v.canvas_ids.shape[0]
        offset = num_prompt % shape.block
        first = shape.prompt - (num_prompt - offset)
        noisy = shape.prompt + shape.response
        clean = torch.cat((v.prompt_ids, v.canvas_ids))
        tokens[place, first : first + len(clean)] = clean
        tail = clean[num_prompt - offset :].clone()
        tail[offset:].masked_fill_(v.hidden[view], work.mask_id)
        tokens[place, noisy : noisy + len(tail)] = tail
        positions[place, first:noisy] = torch.arange(noisy - first)
        positions[place, noisy:] = positions[place, shape.prompt : noisy]
        is_token[place, :first] = False
        slots = slice(offset, offset + num_canvas)
        target = v.target[view]
        scored["weights"][place, slots] = v.weight[view] * target
        scored["advantages"][place, slots] = v.advantages
        scored["behavior_logprobs"][place, slots] = v.behavior_logprobs
        scored["old_logprobs"][place, slots] = v.old_logprobs[view]
        targets[place, slots] = torch.where(target, v.canvas_ids, drawable)
        temperatures[place] = v.temperature
    mask = row_pattern(shape) & is_token[:, None] | torch.eye(length, dtype=torch.bool)
    in_row = torch.arange(shape.prompt + shape.response, length)
    return Pass(
        Pack(
            tokens=tokens.flatten(),
            positions=positions.flatten(),
            structure=torch.empty(4, 0, dtype=torch.int64),
            rows=(torch.arange(batch)[:, None] * length + in_row).flatten(),
            targets=targets.flatten(),
            temperatures=temperatures.flatten(),
            origin=torch.empty(3, 0, dtype=torch.int64),
            **{name: values.flatten() for name, values in scored.items()},
        ),
        RowAttend(mask[:, None]),
        mask.numel(),
    )


def row_pattern(shape: RowShape) -> Tensor:
    """Return `(N, N)` who sees whom in a row without padding; prompts are padded by whole blocks."""
    clean = torch.arange(shape.prompt + shape.response) // shape.block
    blocks = torch.cat((clean, clean[shape.prompt :]))
    copies = (torch.arange(shape.length) >= len(clean)).long()
    nothing = torch.zeros_like(blocks)
    structure = torch.stack((nothing, blocks, copies, nothing - 1))
    return sees(structure[:, :, None], structure[:, None, :])


LAYOUTS: dict[str, Layout] = {
    "rows": rows,
    "packed": packed,
    "rows, sorted": rows_sorted,
    "packed, unsorted": packed_unsorted,
    "packed, own prompt": packed_own_prompt,
}


# --- measuring ------------------------------------------------------------------------------------


class Seconds(NamedTuple):
    """Of one update: CPU, wall, and the wall part that went to the layout."""

    cpu: float
    wall: float
    layout: float


def backward(work: Workload, layout: Layout) -> Seconds:
    """Take the gradient of one update, into the model's `grad`."""
    work.model.zero_grad(set_to_none=True)
    denominator = float(sum(int(v.target.sum()) for v in work.views))
    cpu, wall, in_layout = time.process_time(), time.perf_counter(), 0.0
    mark = wall
    for pack, attend, _ in layout(work):
        in_layout += time.perf_counter() - mark
        targets = Targets(pack.targets, pack.temperatures)
        scores = work.model.score(pack.tokens, pack.positions, attend, pack.rows, targets)
        terms = work.objective(scores, pack)
        ((terms.loss * pack.weights).sum() / denominator).backward()
        mark = time.perf_counter()
    return Seconds(time.process_time() - cpu, time.perf_counter() - wall, in_layout)


def gradient(model: Model) -> Tensor:
    """Return the whole gradient as one vector."""
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


class Count(NamedTuple):
    """What an update costs on paper."""

    tokens: int
    scored: int
    matmul_flop: float
    attention_flop: float


def count_work(work: Workload, layout: Layout) -> Count:
    """Count tokens and floating-point operations, forward and backward.

    A matrix product costs two operations per weight and token, three times (forward, and backward
    to input and weight); attention four per pair and channel forward, ten backward, because scores
    are computed again.
    """
    passes = [(p.pack.tokens.shape[0], p.pack.rows.shape[0], p.num_pairs) for p in layout(work)]
    tokens, scored, pairs = (sum(column) for column in zip(*passes, strict=True))
    spec, layers = work.model.spec, work.model.backbone.layers
    weights = sum(p.numel() for p in layers.parameters() if p.dim() == 2)
    head = spec.vocab_size * spec.width
    channels = spec.num_heads * spec.head_width * spec.num_layers
    return Count(tokens, scored, 6.0 * (tokens * weights + scored * head), 14.0 * pairs * channels)


STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_mib(action: Callable[[], object]) -> float | None:
    """Return by how much an action raises resident memory at its highest; `None` where Linux does not say."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # or freed memory that is still held hides a part
        CLEAR.write_text("5")
        before = _resident_kib("VmRSS")
        action()
        return (_resident_kib("VmHWM") - before) / 1024
    except OSError:
        return None


def _resident_kib(name: str) -> int:
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])


def measure(
    work: Workload, names: Sequence[str], repeats: int, num_full: int
) -> dict[str, dict[str, Any]]:
    """Run layouts in turn, `repeats` times: the first two always, the others in the first `num_full` rounds.

    The first round also compares gradients and memory.
    """
    seconds: dict[str, list[Seconds]] = {name: [] for name in names}
    gradients: dict[str, Tensor] = {}
    peaks: dict[str, float | None] = {}
    for repeat in range(repeats):
        for name in names if repeat < num_full else names[:2]:
            run = lambda name=name: seconds[name].append(backward(work, LAYOUTS[name]))  # noqa: E731
            if repeat:
                run()
            else:
                work.model.zero_grad(set_to_none=True)
                peaks[name] = peak_mib(run)
                gradients[name] = gradient(work.model)
            work.model.zero_grad(set_to_none=True)
    return {
        name: _result(
            seconds["rows"],
            seconds[name],
            count_work(work, LAYOUTS[name]),
            relative_difference(gradients[name], gradients["rows"]),
            peaks[name],
        )
        for name in names
    }


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """Return `|found - expected| / |expected|`, Euclidean, in float64."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def _result(
    baseline: Sequence[Seconds],
    found: Sequence[Seconds],
    count: Count,
    difference: float,
    peak: float | None,
) -> dict[str, Any]:
    pairs = list(zip(baseline, found, strict=False))  # a layout may have had fewer rounds
    return {
        "speed": round(median(row.cpu / own.cpu for row, own in pairs), 3),
        "speed_wall": round(median(row.wall / own.wall for row, own in pairs), 3),
        "speed_range": [
            round(edge(row.cpu / own.cpu for row, own in pairs), 3) for edge in (min, max)
        ],
        "cpu_s": round(median(own.cpu for own in found), 4),
        "wall_s": round(median(own.wall for own in found), 4),
        "layout_share": round(median(own.layout / own.wall for own in found), 4),
        "tokens": count.tokens,
        "scored": count.scored,
        "tflop": round((count.matmul_flop + count.attention_flop) / 1e12, 5),
        "attention_share_of_flop": round(
            count.attention_flop / (count.matmul_flop + count.attention_flop), 4
        ),
        "gradient_difference": difference,
        "peak_mib": peak if peak is None else round(peak, 1),
    }


# --- workloads ------------------------------------------------------------------------------------


def chain_sum_workload(arguments: argparse.Namespace, directory: Path) -> Workload:
    """Return what one RL step of the quickstart trains on: the kept groups of 64 prompts, 8 answers each."""
    path = arguments.model or train_quickstart_model(
        "chain_sum", directory, [f"steps={arguments.sft_steps}", *arguments.task_size]
    )
    overrides = [f"rollout.prompts={arguments.prompts}", f"run.seed={arguments.seed}"]
    overrides += arguments.task_size
    if arguments.smoke:
        overrides.append("filter.drop_uniform=false")
    config = quickstart_config(RLConfig, "chain_sum", directory / "rl", path, overrides)
    llm, task = build_llm(config.model, config.engine), build_task(config.task)
    prompts = llm.tokenize(task.prompts("train"))[: config.rollout.prompts]
    sampling = config.sampling.to_params(n=config.rollout.responses)
    trajectories = write_trajectories(llm, prompts, sampling, arguments.seed)
    groups = grade_trajectories(llm, task, trajectories, config.rollout.responses)
    task.close()
    kept = [group for group in groups if is_kept(group, config.filter)]
    objective = build_policy_terms(config.objective, is_single_update=False)
    views = trajectory_views(kept, config)
    if arguments.smoke:  # an untrained model earns nothing, and no advantage is no gradient
        views = [replace(v, advantages=torch.ones_like(v.advantages)) for v in views]
    return Workload("chain_sum", llm.model, views, objective, config.optimizer.token_budget)


def lengths_workload(arguments: argparse.Namespace) -> Workload:
    """Return trajectories of prompts of 100-200 and responses of 200-800 tokens, 1-4 steps per block."""
    rng = random.Random(arguments.seed)
    model = Model(realistic_spec(arguments))
    initialise(model, arguments.seed)
    count = arguments.groups * arguments.responses
    lengths = [200 + 600 * (2 * n + 1) // (2 * count) for n in range(count)]  # evenly spread
    rng.shuffle(lengths)
    views = []
    for uid in range(arguments.groups):
        prompt_ids = draw_ids(rng, rng.randint(100, 200), model.spec)
        for num_response in lengths[uid :: arguments.groups]:
            trajectory = draw_trajectory(rng, uid, prompt_ids, num_response, model.spec)
            views.append(views_of_trajectory(trajectory, rng.choice((-1.0, 1.0))))
    # Nobody sampled these tokens: the policy's own log-probabilities are the old ones.
    objective = build_policy_terms(ObjectiveConfig(), is_single_update=True)
    return Workload("lengths", model, views, objective, arguments.token_budget)


def realistic_spec(arguments: argparse.Namespace) -> ModelSpec:
    """Return a model of usual proportions: head width 64, grouped queries, feed-forward three times as wide."""
    width = arguments.width
    return ModelSpec(
        family="sdar",
        num_layers=arguments.layers,
        width=width,
        num_heads=width // 64,
        num_kv_heads=max(1, width // 128),
        head_width=64,
        ffn_width=3 * width,
        vocab_size=arguments.vocabulary,
        max_length=4096,
        rope_theta=1e6,
        norm_eps=1e-6,
        has_qkv_bias=False,
        has_qk_norm=True,
        is_tied=False,
        mask_id=0,
        block_size=arguments.block,
        num_drawable=arguments.vocabulary,
        eos_ids=(1,),
    )


def draw_ids(rng: random.Random, count: int, spec: ModelSpec) -> tuple[int, ...]:
    """Draw ordinary token ids."""
    return tuple(rng.randrange(2, spec.vocab_size) for _ in range(count))


def draw_trajectory(
    rng: random.Random, uid: int, prompt_ids: tuple[int, ...], num_response: int, spec: ModelSpec
) -> Trajectory:
    """Draw a trajectory whose blocks took one to four denoising steps each, in any order of slots."""
    block = spec.block_size
    num_canvas = num_response + -(len(prompt_ids) + num_response) % block
    step_map: list[int] = []
    while len(step_map) < num_canvas:
        size = block - (len(prompt_ids) + len(step_map)) % block
        num_steps = min(size, rng.randint(1, 4))
        # Every step reveals a slot; the others are spread over the steps.
        steps = [*range(num_steps), *(rng.randrange(num_steps) for _ in range(size - num_steps))]
        rng.shuffle(steps)
        taken = max(step_map, default=0)
        step_map += [taken + 1 + step for step in steps]
    return Trajectory(
        prompt=Prompt("lengths", uid, (), prompt_ids),
        canvas_ids=draw_ids(rng, num_canvas, spec),
        step_map=tuple(step_map),
        behavior_logprobs=(0.0,) * num_canvas,
        num_response=num_response,
        finish="length",
        policy_version=0,
        sampling=SamplingParams(block_size=block, stop_token_ids=(1,)),
        num_forwards=max(step_map),
    )


# --- the program ----------------------------------------------------------------------------------


def describe(work: Workload) -> dict[str, Any]:
    """Return the size of a workload."""
    prompts, canvases = (
        [getattr(v, name).shape[0] for v in work.views] for name in ("prompt_ids", "canvas_ids")
    )
    return {
        "trajectories": len(work.views),
        "rounds": sum(len(v.target) for v in work.views),
        "noisy_blocks": sum(_count_noisy_blocks(v) for v in work.views),
        "targets": sum(int(v.target.sum()) for v in work.views),
        "prompt_tokens": [min(prompts), max(prompts)],
        "canvas_tokens": [min(canvases), max(canvases)],
        "parameters": sum(p.numel() for p in work.model.parameters()),
        "token_budget": work.token_budget,
    }


def _count_noisy_blocks(views: Views) -> int:
    offset = views.prompt_ids.shape[0] % views.block
    grid = F.pad(views.target, (offset, 0)).unflatten(1, (-1, views.block))
    return int(grid.any(-1).sum())


def show(work: Workload, size: dict[str, Any], results: dict[str, Any]) -> None:
    """Print one workload's table."""
    title = (
        f"{work.name}: {size['trajectories']} trajectories, {size['rounds']} rounds, "
        f"{size['noisy_blocks']} noisy blocks, {size['parameters'] / 1e6:.1f}M parameters"
    )
    table = Table(title=title)
    headings = ("layout", "speed", "cpu s", "tokens", "TFLOP", "layout", "gradient", "peak MiB")
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left", no_wrap=True)
    baseline = results["rows"]
    for name, found in results.items():
        peak = found["peak_mib"]
        table.add_row(
            name,
            f"{found['speed']:.2f}x",
            f"{found['cpu_s']:.2f}",
            f"{found['tokens']:,} ({baseline['tokens'] / found['tokens']:.2f}x)",
            f"{found['tflop']:.3f} ({baseline['tflop'] / found['tflop']:.2f}x)",
            f"{found['layout_share']:.0%}",
            f"{found['gradient_difference']:.0e}",
            "-" if peak is None else f"{peak:.0f}",
        )
    Console(width=max(Console().width, 110)).print(table)


def read_arguments() -> argparse.Namespace:
    """Read the command line; `--smoke` is a tiny update of each workload, and writes nothing by itself."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ("chain_sum", "lengths")
    parser.add_argument("--workloads", nargs="+", choices=names, default=list(names))
    parser.add_argument("--layouts", nargs="+", choices=list(LAYOUTS), default=list(LAYOUTS))
    parser.add_argument(
        "--repeats",
        type=int,
        default=3,
        help="of rows and the first layout; chain_sum: 5 times as many, of all",
    )
    parser.add_argument("--seed", type=int, default=0)
    small = parser.add_argument_group("chain_sum")
    small.add_argument("--model", type=Path, help="this checkpoint instead of a short SFT")
    small.add_argument("--sft-steps", type=int, default=200)
    small.add_argument("--prompts", type=int, default=64)
    large = parser.add_argument_group("lengths")
    large.add_argument("--groups", type=int, default=2, help="prompts")
    large.add_argument("--responses", type=int, default=3, help="trajectories per prompt")
    large.add_argument("--block", type=int, default=4)
    large.add_argument("--width", type=int, default=256)
    large.add_argument("--layers", type=int, default=4)
    large.add_argument("--vocabulary", type=int, default=2000)
    large.add_argument("--token-budget", type=int, default=8192)
    parser.add_argument("--out", type=Path, default=RESULTS / "tracerl_update.json")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.repeats, arguments.sft_steps, arguments.prompts = 1, 2, 4
        arguments.groups, arguments.responses, arguments.width, arguments.layers = 1, 2, 64, 1
        if arguments.out == parser.get_default("out"):
            arguments.out = None
    arguments.task_size = ["task.size=400"] if arguments.smoke else []
    arguments.layouts = list(dict.fromkeys(["rows", *arguments.layouts]))
    return arguments


def main() -> None:
    """Measure every workload, print the tables, write the JSON, and fail if gradients differ."""
    arguments = read_arguments()
    torch.set_num_threads(1)
    settings = {key: value for key, value in vars(arguments).items() if key not in ("out", "model")}
    result: dict[str, Any] = {"settings": settings, "machine": describe_machine(), "workloads": {}}
    with tempfile.TemporaryDirectory() as place:
        for name in arguments.workloads:
            is_small = name == "chain_sum"
            work = (
                chain_sum_workload(arguments, Path(place))
                if is_small
                else lengths_workload(arguments)
            )
            repeats = arguments.repeats * (5 if is_small else 1)
            layouts = measure(work, arguments.layouts, repeats, repeats if is_small else 1)
            size = describe(work)
            show(work, size, layouts)
            result["workloads"][name] = {"size": size, "repeats": repeats, "layouts": layouts}
    write_result(arguments.out, result)
    differences = [
        found["gradient_difference"]
        for workload in result["workloads"].values()
        for found in workload["layouts"].values()
    ]
    if not all(difference <= TOLERANCE for difference in differences):
        raise SystemExit(
            f"gradients differ by {max(differences):.1e}: the layouts are not the same"
        )


if __name__ == "__main__":
    main()
