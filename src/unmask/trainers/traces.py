"""`unmask trace`: the order in which a model writes the responses of a data set, for trace SFT.

The model decodes either with the tokens of the demonstrations forced (`diffusion/forced.py`) or freely, from
their prompts. Records are token ids with a step map, which `data.path` reads:

    {"prompt_ids": [...], "response_ids": [...], "step_map": [...]}
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from unmask.configs.methods.views.random import RandomViews
from unmask.configs.sampling import SamplingConfig
from unmask.configs.sft import SFTConfig
from unmask.data.demonstrations import Demonstration
from unmask.diffusion.forced import Pace, forced_step_maps
from unmask.distributed.parts import Steps, in_rounds, on_main
from unmask.distributed.world import ALONE, World
from unmask.engine.llm import LLM
from unmask.models.conventions import conventions_of
from unmask.runs.files import write_text
from unmask.runs.progress import Progress
from unmask.seeds import derive_seed
from unmask.tasks.build import build_task
from unmask.trainers.reference import Scorer
from unmask.trainers.sft import check_fit, fewest_positions
from unmask.trainers.sft_data import digest, read_sets, vocabulary_of_llm
from unmask.trainers.start import starting_llm
from unmask.types import Prompt

ROUND_S = 60.0  # between exchanges of ranks: some batches


def write_traces(
    config: SFTConfig, output: Path, is_free: bool = False, world: World = ALONE
) -> int:
    """Write the trajectories of a model on the demonstrations of a run, and return their number.

    Args:
        config: model, data and `eval.sampling`: `block_size`, `denoising_steps` and, under `strategy =
            "dynamic"`, `threshold`.
        output: JSON Lines file; written when all are there.
        is_free: decode the prompts without forcing the responses.
        world: the ranks, which share whole batches, so that each batch is computed as by one process.

    Raises:
        ValueError: for what the config asks and cannot have, or cannot be recorded.
    """
    on_main(world, "start", lambda: _refuse_existing(output))
    if config.data.streams:
        raise ValueError("data.streaming = true: a stream has no end; leave it out")
    # The demonstrations are read as they are, whether or not they have step maps already, and all of them.
    data = config.data.model_copy(update={"validation": None})
    config = config.model_copy(update={"views": RandomViews(), "data": data})
    with world.together("start"):
        llm = starting_llm(config)
        with closing(build_task(config.task)) as task:
            found = read_sets(config, task, vocabulary_of_llm(llm), llm.model.spec).trained
        check_fit(found, config, llm.model.spec)
        if held := next((d for d in found if d.images), None):
            raise ValueError(
                f"{held.place}: the prompt holds vectors of images, which no record of token ids has: leave it out"
            )
    world.check_equal("demonstrations", lambda: digest(found))
    lines: dict[int, str] = {}

    with Progress(len(found), "trace") as bar:

        def take(records: Sequence[tuple[int, str]]) -> None:
            lines.update(records)
            bar.advance(len(records))

        in_rounds(world, "trace", _records(found, config, llm, is_free, world), take, ROUND_S)
    on_main(
        world, "trace", lambda: write_text(output, "".join(map(lines.__getitem__, sorted(lines))))
    )
    return len(found)


def _refuse_existing(output: Path) -> None:
    if output.exists():
        raise ValueError(f"{output}: exists; remove it or name another file")


def _records(
    found: Sequence[Demonstration], config: SFTConfig, llm: LLM, is_free: bool, world: World
) -> Steps[tuple[int, str]]:
    """Yield place and line of the records of each batch of this rank."""
    collect, size = free_traces if is_free else forced_traces, config.data.batch_size
    for start in world.share(range(0, len(found), size)):
        records: list[tuple[int, str]] = []
        traces = collect(found[start : start + size], config, llm, start)
        for place, demonstration in enumerate(traces, start):
            names = ("prompt_ids", "response_ids", "step_map")
            record = {name: list(getattr(demonstration, name)) for name in names}
            records.append((place, json.dumps(record) + "\n"))
        yield records


def forced_traces(
    batch: Sequence[Demonstration], config: SFTConfig, llm: LLM, start: int
) -> Iterator[Demonstration]:
    """Yield demonstrations with the step maps of a decoding that is forced to their tokens.

    Raises:
        ValueError: if `eval.sampling.strategy` ranks positions by something else than confidence.
    """
    sampling = config.eval.sampling or SamplingConfig()
    if sampling.strategy not in ("static", "dynamic"):
        raise ValueError(
            f"eval.sampling.strategy = {sampling.strategy!r}: forced decoding reveals by confidence: "
            'set "static" or "dynamic"'
        )
    pairs = [(d.prompt_ids, d.response_ids) for d in batch]
    spec, fewest = llm.model.spec, fewest_positions(config, batch)
    longest = max(fewest, *(len(d.response_ids) for d in batch))
    block = spec.require_block(sampling.block_size) or sampling.block_size or longest
    count = -(-block // sampling.denoising_steps) if sampling.denoising_steps else 1
    threshold = sampling.threshold if sampling.strategy == "dynamic" else 1.0
    scorer = Scorer(llm.model, config.optimizer.token_budget)
    maps = forced_step_maps(
        pairs, scorer.score, conventions_of(llm.model), Pace(block, count, threshold), fewest
    )
    for demonstration, step_map in zip(batch, maps, strict=True):
        yield replace(demonstration, step_map=step_map)


def free_traces(
    batch: Sequence[Demonstration], config: SFTConfig, llm: LLM, start: int
) -> Iterator[Demonstration]:
    """Yield the model's own responses to the prompts of demonstrations, with their step maps.

    Raises:
        ValueError: if the sampling may change a written token, which has no single step.
    """
    params = (config.eval.sampling or SamplingConfig()).to_params()
    if params.revises:
        raise ValueError("eval.sampling: it may change written tokens, which no step map describes")
    prompts = [Prompt("trace", start + i, (), d.prompt_ids) for i, d in enumerate(batch)]
    seeds = [derive_seed(config.run.seed, start + i) for i in range(len(batch))]
    for written in llm.complete(prompts, [replace(params, seed=seed) for seed in seeds]):
        count = written.num_response
        yield Demonstration(
            written.prompt.token_ids, written.canvas_ids[:count], written.step_map[:count]
        )
