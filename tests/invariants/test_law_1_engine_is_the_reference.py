"""Law 1: on CPU in fp32, the engine is the reference sampler to the bit, at any batch size."""

import random

import pytest
import torch
from torch import Tensor

from tests.engine.bits import assert_same, bits_hold, exact_dtype
from tests.engine.golden_traces import SDAR
from tests.engine.writers import STRATEGIES, Ask, by_engine, by_reference, dense_logits, prompt_of
from tests.toy import toy_model
from unmask.diffusion.sample import Alphabet, sample
from unmask.engine.engine import Engine
from unmask.engine.request import resolve
from unmask.models.checkpoint import load_model
from unmask.models.transformer import Model
from unmask.types import SamplingParams, Strategy, Trajectory


@pytest.fixture(scope="module")
def toy() -> Model:
    return toy_model(1, exact_dtype(), head_width=16, max_length=1024)


@pytest.fixture(scope="module")
def golden() -> Model:
    return load_model(SDAR, dtype=exact_dtype())


def asks_of(strategy: Strategy, vocabulary: int, longest: int, count: int) -> list[Ask]:
    """Draw requests that differ in everything but their strategy."""
    rng = random.Random(f"{strategy} {longest}")
    return [
        (
            [rng.randrange(vocabulary) for _ in range(rng.randrange(longest))],
            SamplingParams(
                strategy=strategy,
                block_size=rng.choice([None, None, 1, 2, 3, 5, 8]),
                denoising_steps=rng.choice([None, 1, 2, 3]),
                threshold=rng.choice([0.1, 0.3, 0.6]),
                temperature=rng.choice([0.0, 0.7, 1.0, 1.5]),
                top_k=rng.choice([0, 0, 6]),
                top_p=rng.choice([1.0, 0.8]),
                min_p=rng.choice([0.0, 0.05]),
                confidence=rng.choice(["raw", "filtered"]),
                max_tokens=rng.randrange(1, 14),
                seed=rng.randrange(2**62),
            ),
        )
        for _ in range(count)
    ]


def in_batches(model: Model, asks: list[Ask], size: int) -> list[Trajectory]:
    return [t for i in range(0, len(asks), size) for t in by_engine(model, asks[i : i + size])]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_trajectories_at_batch_1_2_and_16(strategy: Strategy, toy: Model) -> None:
    asks = asks_of(strategy, 24, 40, 32)
    expected = [by_reference(toy, ask) for ask in asks]
    assert {t.finish for t in expected} == {"stop", "length"}
    assert {len(t.prompt.token_ids) % 4 for t in expected} == {0, 1, 2, 3}
    for size in (1, 2, 16):
        assert_same(in_batches(toy, asks, size), expected)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_trajectories_of_published_weights(strategy: Strategy, golden: Model) -> None:
    asks = asks_of(strategy, 310, 24, 8)
    assert_same(by_engine(golden, asks), [by_reference(golden, ask) for ask in asks])


def test_long_and_short_requests_together(toy: Model) -> None:
    """Key counts on either side of where padding goes in larger steps."""
    rng = random.Random(5)
    asks = [
        ([rng.randrange(24) for _ in range(num_prompt)], SamplingParams(max_tokens=6, seed=i))
        for i, num_prompt in enumerate((3, 100, 125, 127, 140, 190, 222, 507, 515))
    ]
    assert_same(by_engine(toy, asks), [by_reference(toy, ask) for ask in asks])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_logits_of_every_scored_row(strategy: Strategy, toy: Model) -> None:
    """Tick by tick, each row the engine scores against the same position of the dense forward."""
    if not bits_hold():
        pytest.skip("this CPU does not keep the bits")
    for ids, asked in asks_of(strategy, 24, 30, 6):
        params = resolve(prompt_of(ids), asked, toy.spec)
        assert params.block_size is not None
        dense: list[Tensor] = []
        forward = dense_logits(toy, params.block_size)

        def recorded(ids: Tensor, forward=forward, dense=dense) -> Tensor:
            dense.append(forward(ids))
            return dense[-1]

        sample(prompt_of(ids), params, recorded, Alphabet(1, toy.head.drawable))
        ticks: list[tuple[Tensor, Tensor]] = []
        hook = toy.register_forward_hook(
            lambda _, inputs, logits, ticks=ticks: ticks.append((inputs[1][inputs[3]], logits))
        )
        try:
            engine = Engine(toy)
            engine.submit(prompt_of(ids), params)
            list(engine.collect())
        finally:
            hook.remove()
        assert len(ticks) == len(dense)
        for (positions, logits), expected in zip(ticks, dense, strict=True):
            assert torch.equal(logits, expected[0, positions])
