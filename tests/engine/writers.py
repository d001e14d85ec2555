"""Two ways to write a response: the reference sampler and the engine."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from unmask.acceptance.agreement import dense_logits
from unmask.diffusion.reference_sampler import sample
from unmask.diffusion.sampling_tensors import ENTROPY_SUMS, SCHEDULES, STRATEGIES
from unmask.engine.engine import Engine
from unmask.engine.events import Committed, Finished, Written
from unmask.engine.options import EngineParams
from unmask.engine.request import resolve
from unmask.models.conventions import conventions_of
from unmask.models.transformer import Model
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt, Trajectory

BOTH = {"edit_threshold": 0.3, "remask_threshold": 0.1}

Result = TypeVar("Result")

Ask = tuple[Sequence[int], SamplingParams]  # prompt ids, how to answer


def prompt_of(token_ids: Sequence[int]) -> Prompt:
    return Prompt("toy", 0, (), tuple(token_ids))


def by_reference(model: Model, ask: Ask) -> Trajectory:
    """Write one response with the reference sampler."""
    prompt = prompt_of(ask[0])
    params = resolve(prompt, ask[1], model.spec)
    assert params.block_size is not None
    return sample(prompt, params, dense_logits(model, params.block_size), conventions_of(model))


def by_engine(
    model: Model, asks: Sequence[Ask], params: EngineParams | None = None
) -> list[Trajectory]:
    """Write many responses with one engine, in order."""
    return by(Engine(model, params), asks)


def by(engine: Engine, asks: Sequence[Ask]) -> list[Trajectory]:
    """Write many responses with an engine, in order."""
    numbers = [engine.submit(prompt_of(ids), sampling) for ids, sampling in asks]
    finished = results_of(engine.collect())
    return [trajectory_of(finished[number]) for number in numbers]


def results_of(
    events: Iterable[Written | Committed | Finished[Result]],
) -> dict[int, Result | ValueError]:
    """Return the finished results, by number."""
    return {event.request_id: event.result for event in events if isinstance(event, Finished)}


def trajectory_of(result: Trajectory | ValueError) -> Trajectory:
    """Return a result that must not be an error."""
    assert isinstance(result, Trajectory), result
    return result


def draw_params(rng: random.Random, **stated: Any) -> SamplingParams:
    """Draw how to answer, over everything the engine does; what is stated stays."""
    revising = rng.choice([{}, {}, {}, {"edit_threshold": 0.2}, {"remask_threshold": 0.2}, BOTH])
    drawn = {
        "strategy": rng.choice(STRATEGIES),
        "block_size": rng.choice([None, None, 1, 2, 3, 5, 8]),
        "sub_block_size": rng.choice([None, None, 2, 3]),
        "denoising_steps": rng.choice([None, 1, 2, 3]),
        "schedule": rng.choice(SCHEDULES),
        "threshold": rng.choice([0.1, 0.3, 0.6]),
        "factor": rng.choice([0.5, 1.0, 2.0]),
        "entropy_bound": rng.choice([0.1, 1.0, 4.0]),
        "temperature": rng.choice([0.0, 0.7, 1.0, 1.5]),
        "top_k": rng.choice([0, -1, 6]),
        "top_p": rng.choice([1.0, 0.8]),
        "min_p": rng.choice([0.0, 0.05]),
        "confidence": rng.choice(["raw", "filtered"]),
        "max_edit_steps": rng.choice([0, 1, 4]),
        "stop_token_ids": rng.choice([None, (), (2, 5, 7)]),
        "max_tokens": rng.randrange(1, 16),
        "seed": rng.randrange(2**62),
    }
    return SamplingParams(**{**drawn, **revising, **stated})


def some_asks(
    count: int, seed: int = 0, model: Model | None = None, longest: int = 24, **stated: Any
) -> list[Ask]:
    """Draw requests that differ in everything, the strategies and their variants in turn.

    Args:
        count: how many.
        seed: of the draws.
        model: the one that is asked, where it is not the toy model.
        longest: prompts are shorter than this.
        stated: sampling parameters that all of them share.
    """
    rng = random.Random(seed)
    vocabulary = model.spec.vocab_size if model else 20
    # A shifted model predicts the first token from the one before it.
    shortest = int(model is not None and model.spec.is_shifted)
    rounds = [divmod(i, len(STRATEGIES)) for i in range(count)]
    turns = [
        {"strategy": STRATEGIES[i], "entropy_sum": ENTROPY_SUMS[(i + n) % len(ENTROPY_SUMS)]}
        for n, i in rounds
    ]
    return [
        (
            [rng.randrange(vocabulary) for _ in range(rng.randrange(shortest, longest))],
            draw_params(rng, **{**turn, **stated}),
        )
        for turn in turns
    ]


def revising_asks(
    count: int, seed: int, model: Model, longest: int = 14, **stated: Any
) -> list[Ask]:
    """Draw requests that overwrite tokens, mask them again or both, unfiltered and at exact temperatures."""
    rng = random.Random(seed)
    edits, masks = {"edit_threshold": 0.15, "max_edit_steps": 3}, {"remask_threshold": 0.2}
    whole = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}
    asks: list[Ask] = []
    for i, (ids, params) in enumerate(some_asks(count, seed, model, longest)):
        drawn = {
            "temperature": rng.choice([0.5, 1.0, 1.5]),
            "block_size": rng.choice([3, 4, 8]),
            "max_tokens": rng.randrange(5, 20),
        }
        changes = whole | drawn | (edits, masks, edits | masks)[i % 3] | stated
        asks.append((ids, replace(params, **changes)))
    return asks


def pinned_asks(asks: Sequence[Ask], seed: int, vocabulary: int = 20) -> list[Ask]:
    """Return requests with tokens pinned: few, many, whole blocks, or all but one position."""
    rng = random.Random(seed)

    def pinned(count: int) -> tuple[tuple[int, int], ...]:
        share = rng.choice([0.2, 0.5, 0.9])
        places = [p for p in range(count) if rng.random() < share]
        first = rng.randrange(count)
        places += range(first, min(count, first + rng.choice([0, 0, 9])))
        free = rng.randrange(count)  # something is left to write
        tokens = [t for t in range(vocabulary) if t != 1]  # 1 is the mask
        return tuple((p, rng.choice(tokens)) for p in sorted({*places} - {free}))

    return [(ids, replace(one, pinned=pinned(one.max_tokens))) for ids, one in asks]


def sharing_asks(count: int, seed: int, model: Model, longest: int = 100) -> list[Ask]:
    """Draw requests of which most begin alike, on prompts that fill a page and more.

    Two in three are in the model's own blocks, or 3: only texts in the same blocks can be shared.

    Args:
        count: how many.
        seed: of the draws.
        model: the one that is asked.
        longest: prompts are at most this long.
    """
    rng = random.Random(seed)
    bases = [[rng.randrange(model.spec.vocab_size) for _ in range(longest)] for _ in range(2)]
    lengths = [n for n in (1, 33, 40, 64, 70, 97, 100) if n <= longest]
    own = some_asks(count, seed, model)
    return [
        (
            ids if rng.random() < 0.3 else rng.choice(bases)[: rng.choice(lengths)],
            replace(params, block_size=rng.choice([None, 3, params.block_size])),
        )
        for ids, params in own
    ]
