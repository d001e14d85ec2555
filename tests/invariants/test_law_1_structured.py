"""Law 1 with structured output: the engine is the reference sampler to the bit, and what it writes matches."""

import random
import re
from dataclasses import replace
from functools import cache

import pytest
import torch

from tests.diffusion.automata import automaton_of, random_pattern
from tests.engine.bits import assert_same, exact_dtype, unpriced
from tests.engine.models import KINDS, model_of
from tests.engine.writers import Ask, by, by_engine, prompt_of, results_of, some_asks
from unmask.acceptance.agreement import dense_logits
from unmask.diffusion.automaton import Automaton
from unmask.diffusion.constrained import Constraint
from unmask.diffusion.reference_sampler import sample
from unmask.engine.engine import Engine
from unmask.engine.options import EngineParams
from unmask.engine.request import resolve
from unmask.models.conventions import conventions_of
from unmask.models.transformer import Model
from unmask.sampling_params import SamplingParams
from unmask.types import Trajectory

LETTERS = "abcdefghijklmnopqr"  # ids 2 to 19, all that the toys may write
SIZES = {
    "default": EngineParams(),
    "few of all": EngineParams(max_sequences=5, row_budget=40, cache_tokens=6 * 64),
    "read late": EngineParams(max_sequences=6, reads_late=True, cache_tokens=8 * 64, row_budget=60),
}


@cache
def toy(kind: str) -> Model:
    return model_of(kind, exact_dtype())


@cache
def automaton(regex: str) -> Automaton:
    return automaton_of(regex, LETTERS, num_tokens=24)


def by_reference(model: Model, ask: Ask) -> Trajectory:
    prompt = prompt_of(ask[0])
    params = resolve(prompt, ask[1], model.spec)
    constraint = None
    if params.regex is not None:
        constraint = Constraint.of(automaton(params.regex), params.max_tokens, params.pinned)
    assert params.block_size is not None
    logits = dense_logits(model, params.block_size)
    return sample(prompt, params, logits, conventions_of(model), constraint)


def structured(ask: Ask, seed: int) -> Ask:
    """Return a request for a random pattern; of some, parts of a match are pinned."""
    rng = random.Random(seed)
    ids, params = ask
    while True:
        regex = random_pattern(rng, LETTERS, 4)
        length = rng.randrange(1, 16)
        changes = {"edit_threshold": None, "remask_threshold": None, "stop_token_ids": (0,)}
        asked = replace(params, regex=regex, max_tokens=length, **changes)
        if int(automaton(regex).distance[0]) > length:
            continue
        if rng.random() < 0.4:
            written = by_reference(toy("blocks"), (ids or [5], asked)).response_ids
            places = [p for p in range(len(written)) if rng.random() < 0.4]
            asked = replace(asked, pinned=tuple((p, written[p]) for p in places))
        return ids, asked


@pytest.mark.parametrize("kind", KINDS)
def test_structured_responses_are_the_reference_samplers_and_match(kind: str) -> None:
    model = toy(kind)
    plain = some_asks(6, 3, model, 40)
    asks = [structured(ask, i) for i, ask in enumerate(some_asks(16, 4, model, 40))]
    mixed = [*asks[:8], *plain, *asks[8:]]
    expected = {id(ask): by_reference(model, ask) for ask in mixed}
    for ask in asks:
        written, (_, params) = expected[id(ask)], ask
        tokens = [token for token in written.response_ids if token]
        assert re.fullmatch(params.regex or "", "".join(LETTERS[token - 2] for token in tokens))
        assert 0 not in written.response_ids[: len(tokens)], "after the end, stop tokens alone"
        for position, token in params.pinned:
            assert written.canvas_ids[position] == token and not written.step_map[position]
    for count in (1, len(mixed)):
        for first in range(0, len(mixed), count):
            some = mixed[first : first + count]
            engine = Engine(model, automata=lambda p: automaton(str(p.regex)))
            assert_same(by(engine, some), [expected[id(ask)] for ask in some])
    for params in SIZES.values():
        engine = Engine(model, params, automata=lambda p: automaton(str(p.regex)))
        results = unpriced(by(engine, mixed))
        assert_same(results, unpriced([expected[id(ask)] for ask in mixed]))
    # Requests that are not structured are those of an engine without any that is.
    assert_same(by_engine(model, plain), [expected[id(ask)] for ask in plain])


def test_structured_requests_without_a_tokenizer_are_refused() -> None:
    engine = Engine(toy("blocks"))
    with pytest.raises(ValueError, match="regex or json_schema: without a tokenizer"):
        engine.submit(prompt_of([5]), SamplingParams(regex="a"))


def test_the_reference_sampler_needs_the_constraint() -> None:
    model, params = toy("blocks"), SamplingParams(regex="a", block_size=4)
    with pytest.raises(ValueError, match="regex or json_schema: give the constraint"):
        sample(prompt_of([5]), params, dense_logits(model, 4), conventions_of(model))


def test_logits_that_are_no_numbers_end_a_response_and_no_other() -> None:
    model = model_of("blocks", exact_dtype())
    with torch.no_grad():
        model.head.projection.weight[7] = torch.nan
    engine = Engine(model, automata=lambda p: automaton(str(p.regex)))
    for ids in ([5], [5, 6]):
        engine.submit(prompt_of(ids), SamplingParams(regex="[a-c]{6}", max_tokens=8))
    results = results_of(engine.collect())
    assert len(results) == 2
    for result in results.values():
        assert isinstance(result, ValueError) and "are not numbers" in str(result)
