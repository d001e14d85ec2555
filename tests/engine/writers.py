"""Two ways to write a response: the reference sampler and the engine."""

import random
from collections.abc import Sequence

from torch import Tensor

from unmask.diffusion.sample import Alphabet, LogitsFn, sample
from unmask.engine.engine import Engine
from unmask.engine.params import EngineParams
from unmask.engine.request import resolve
from unmask.models.transformer import Model, block_causal
from unmask.types import Prompt, SamplingParams, Strategy, Trajectory

STRATEGIES: tuple[Strategy, ...] = ("static", "dynamic", "random", "left_to_right")

Ask = tuple[Sequence[int], SamplingParams]  # prompt ids, how to answer


def prompt_of(token_ids: Sequence[int]) -> Prompt:
    return Prompt("toy", 0, (), tuple(token_ids))


def dense_logits(model: Model, block: int) -> LogitsFn:
    """Return the dense forward pass under blocks of `block` tokens."""

    def logits(ids: Tensor) -> Tensor:
        return model.logits(ids, allowed=block_causal(ids.shape[1], block)[None])

    return logits


def by_reference(model: Model, ask: Ask) -> Trajectory:
    """Write one response with the reference sampler."""
    prompt = prompt_of(ask[0])
    params = resolve(prompt, ask[1], model.spec)
    assert params.block_size is not None
    alphabet = Alphabet(model.spec.require_mask_id(), model.head.drawable)
    return sample(prompt, params, dense_logits(model, params.block_size), alphabet)


def by_engine(
    model: Model, asks: Sequence[Ask], params: EngineParams | None = None
) -> list[Trajectory]:
    """Write many responses with one engine, in order."""
    engine = Engine(model, params)
    numbers = [engine.submit(prompt_of(ids), sampling) for ids, sampling in asks]
    finished = dict(engine.collect())
    return [finished[number] for number in numbers]


def some_asks(count: int, seed: int = 0) -> list[Ask]:
    """Draw requests of mixed prompt lengths, block sizes, lengths and strategies."""
    rng = random.Random(seed)
    return [
        (
            [rng.randrange(20) for _ in range(rng.randrange(24))],
            SamplingParams(
                strategy=STRATEGIES[i % 4],
                block_size=rng.choice([None, 2, 3, 8]),
                threshold=0.3,
                max_tokens=rng.randrange(1, 20),
                top_k=rng.choice([0, 4]),
                seed=i,
            ),
        )
        for i in range(count)
    ]
