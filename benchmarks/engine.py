"""The engine against the published loop, and against the matrix products it cannot do without.

    python benchmarks/engine.py                           # half an hour on one core

A random SDAR-shaped model of 132M parameters writes 256 tokens for each of 64 prompts of 64 to 256
tokens, block 4, greedy, one token per forward pass (`static`) or two (`two per pass`). Both sides run
one thread in fp32, and reveal the same positions at the same steps.

    loop      the shape of the published `block_diffusion_generate`: one sequence at a time, a cache
              that is concatenated anew in every pass, logits of every row that is fed, a pass of its
              own to commit each block. It runs 8 of the requests for 64 tokens; its prefill is taken
              as it is, its decoding scaled to 256 tokens.
    engine    `Engine`, all requests at once
    one       `Engine`, the first request alone
    bound     the matrix products of the layers and the head, alone, for the very rows that the engine
              fed and scored

What is compared runs in turn: after each pass of the engine its products, and from time to time a
prompt of the loop; one request, its products and the loop three times, of which the medians are taken.

Reading the table: seconds are CPU seconds of this process. `speed` is the engine's tokens per second
over the loop's, `of bound` the share of the engine's time that its matrix products alone take.
`group` is one prompt of 512 tokens with sixteen answers: the rows of the prompt fed, over its length.

Writes `benchmarks/results/engine.json`, with the settings and the machine.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from published_loop import Loop, make_prompts
from rich.console import Console
from rich.table import Table
from setting import RESULTS, describe_machine, write_result
from shapes import BLOCK
from torch import Tensor, nn

from unmask.engine.engine import Engine
from unmask.engine.events import Finished
from unmask.models.spec import ModelSpec
from unmask.models.transformer import Model, initialise
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt, Trajectory

LOOP_PROMPTS, ROUNDS = 8, 3
FULL = {"width": 768, "num_layers": 12, "ffn_width": 2304, "vocab_size": 32000}
SMOKE = {"width": 64, "num_layers": 2, "ffn_width": 128, "vocab_size": 128}


def build_model(sizes: dict[str, int]) -> Model:
    """Return a random model of SDAR's shape."""
    heads = sizes["width"] // 64
    spec = ModelSpec(
        family="sdar",
        num_heads=heads,
        num_kv_heads=max(1, heads // 3),
        head_width=64,
        max_length=4096,
        rope_theta=1e6,
        norm_eps=1e-6,
        has_qkv_bias=False,
        has_qk_norm=True,
        is_tied=False,
        mask_id=sizes["vocab_size"] - 1,
        block_size=BLOCK,
        num_drawable=sizes["vocab_size"],
        eos_ids=(),
        **sizes,
    )
    model = Model(spec)
    initialise(model, 0)
    return model.requires_grad_(False)


class Products:
    """The matrix products of a model's layers and head, and nothing else."""

    def __init__(self, model: Model) -> None:
        """Take the layers as the engine multiplies by them."""
        names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        widths = [model.get_submodule(name).in_features for name in names]
        *self.layers, self.head = zip(map(model.get_submodule, names), widths, strict=True)
        self.inputs: dict[tuple[int, int], Tensor] = {}

    def rows(self, count: int, width: int) -> Tensor:
        """Return rows of noise, the same for the same numbers."""
        if (count, width) not in self.inputs:
            self.inputs[count, width] = torch.randn(count, width)
        return self.inputs[count, width]

    @torch.inference_mode()
    def time(self, fed: int, scored: int) -> float:
        """Return the CPU seconds of one pass that feeds `fed` rows and scores `scored`."""
        work = [(layer, self.rows(fed, width)) for layer, width in self.layers]
        head, width = self.head
        work.append((head, self.rows(scored, width)))
        began = time.process_time()
        for layer, rows in work:
            layer(rows)
        return time.process_time() - began


def run_engine(
    engine: Engine,
    products: Products,
    prompts: Sequence[tuple[int, ...]],
    sampling: SamplingParams,
    meanwhile: Callable[[], object] = lambda: None,
) -> tuple[list[Trajectory], float, float]:
    """Return the responses, the CPU seconds, and those of the products of the same passes.

    The products of a pass run right after it, and `meanwhile` then: what disturbs one disturbs all.
    """
    passes: list[tuple[int, int]] = []
    inner = engine._runner.forward

    def forward(slots: Any, rows: Any, scored: Tensor) -> Tensor:
        passes.append((len(rows.position), len(scored)))
        return inner(slots, rows, scored)

    engine._runner.forward = forward  # type: ignore[method-assign]
    finished: dict[int, Trajectory | ValueError] = {}
    seconds, bound = -time.process_time(), 0.0
    numbers = [
        engine.submit(Prompt("bench", i, (), ids), sampling) for i, ids in enumerate(prompts)
    ]
    seconds += time.process_time()
    while not engine.is_idle:
        began = time.process_time()
        events = engine.tick()
        seconds += time.process_time() - began
        finished |= {e.request_id: e.result for e in events if isinstance(e, Finished)}
        bound += sum(products.time(*rows) for rows in passes)
        passes.clear()
        meanwhile()
    engine._runner.forward = inner  # type: ignore[method-assign]
    results = [finished[number] for number in numbers]
    assert all(isinstance(result, Trajectory) for result in results)
    return results, seconds, bound  # type: ignore[return-value]


def compare(
    model: Model, prompts: Sequence[tuple[int, ...]], per_pass: int, count: int
) -> dict[str, Any]:
    """Run loop, engine, one request and their bounds."""
    sampling = SamplingParams(
        strategy="static",
        denoising_steps=BLOCK // per_pass,
        schedule="block",  # a first block of two masks is written in one pass by the loop, too
        temperature=0,
        stop_token_ids=(),
        max_tokens=count,
    )
    engine = Engine(model)
    products, few = Products(model), min(64, count)

    def loop(prompt: Sequence[int]) -> tuple[list[int], float]:
        """Return the loop's responses, and its seconds for `count` tokens."""
        ids, prefill, decode = Loop(model, per_pass).write(prompt, few)
        return ids, prefill + decode * count / few

    # The prompts of the loop are spread over the passes of the engine.
    every, ticks = max(1, count // per_pass // LOOP_PROMPTS), itertools.count()
    waiting, looped = list(prompts[:LOOP_PROMPTS]), []

    def meanwhile() -> None:
        if next(ticks) % every == 0 and waiting:
            looped.append(loop(waiting.pop(0)))

    results, seconds, bound = run_engine(engine, products, prompts, sampling, meanwhile)
    rounds = [
        (*run_engine(engine, products, prompts[:1], sampling)[1:], loop(prompts[0])[1])
        for _ in range(ROUNDS)
    ]
    one_s, one_bound, one_loop_s = (median(column) for column in zip(*rounds, strict=True))
    loop_rate = len(looped) * count / sum(loop_s for _, loop_s in looped)
    same = [
        sum(a == b for a, b in zip(ids, result.response_ids, strict=False)) / few
        for (ids, _), result in zip(looped, results, strict=False)
    ]
    rate = len(prompts) * count / seconds
    return {
        "loop_tokens_per_s": loop_rate,
        "engine_tokens_per_s": rate,
        "speed": rate / loop_rate,
        "of_bound": bound / seconds,
        "one_tokens_per_s": count / one_s,
        "one_speed": one_loop_s / one_s,
        "one_of_bound": one_bound / one_s,
        "same_tokens": min(same),
    }


def feed_group(model: Model, length: int, answers: int) -> float:
    """Return how often a shared prompt was fed: prompt rows over its length."""
    prompt = make_prompts(1, length, length, model.spec.vocab_size)[0]
    sampling = SamplingParams(strategy="static", max_tokens=BLOCK, stop_token_ids=(), temperature=0)
    engine, fed = Engine(model), 0
    inner = engine._runner.forward

    def forward(slots: Any, rows: Any, scored: Tensor) -> Tensor:
        nonlocal fed
        fed += int(((rows.position < length) & (rows.limit > 0)).sum())
        return inner(slots, rows, scored)

    engine._runner.forward = forward  # type: ignore[method-assign]
    for uid in range(answers):
        engine.submit(Prompt("bench", uid, (), prompt), sampling)
    list(engine.collect())
    return fed / length


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS / "engine.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = build_model(SMOKE if options.smoke else FULL)
    requests, count = (6, 16) if options.smoke else (options.requests, options.tokens)
    prompts = make_prompts(requests, 64, 256, model.spec.vocab_size)
    result: dict[str, Any] = {
        "machine": describe_machine(),
        "settings": {"requests": requests, "tokens": count, "block": BLOCK, "prompts": [64, 256]},
        "group_prompt_fed": feed_group(model, 512, 16),
        "runs": {
            name: compare(model, prompts, per_pass, count)
            for name, per_pass in (("static", 1), ("two per pass", 2))
        },
    }
    print_table(result)
    is_default = options.out == RESULTS / "engine.json"
    write_result(None if options.smoke and is_default else options.out, result)


def print_table(result: dict[str, Any]) -> None:
    """Print one row per run."""
    columns: dict[str, Callable[[dict[str, float]], str]] = {
        "loop tok/s": lambda run: f"{run['loop_tokens_per_s']:.1f}",
        "engine tok/s": lambda run: f"{run['engine_tokens_per_s']:.1f}",
        "speed": lambda run: f"{run['speed']:.1f}x",
        "of bound": lambda run: f"{run['of_bound']:.0%}",
        "one: speed": lambda run: f"{run['one_speed']:.2f}x",
        "one: of bound": lambda run: f"{run['one_of_bound']:.0%}",
        "same tokens": lambda run: f"{run['same_tokens']:.0%}",
    }
    table = Table("", *columns)
    for name, run in result["runs"].items():
        table.add_row(name, *(show(run) for show in columns.values()))
    Console().print(table)
    Console().print(
        f"a prompt of 512 tokens with 16 answers was fed {result['group_prompt_fed']:.2f} times"
    )


if __name__ == "__main__":
    main()
