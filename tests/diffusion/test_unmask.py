"""One denoising step: filters, draws, quotas and selection, against naive twins."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unmask.diffusion.draws import TOKEN, uniform
from unmask.diffusion.unmask import Rules, draw, filter_logits, propose, quota, reveal, select
from unmask.types import SamplingParams

CPU = torch.device("cpu")
LAST = 1 - 2.0**-53  # the largest number `uniform` returns


def rules(*changes: dict[str, Any]) -> Rules:
    """Return the rules of one request per dict of changes."""
    return Rules.of([SamplingParams(**{"block_size": 4, **c}) for c in changes], CPU)


def kept(logits: Tensor) -> list[set[int]]:
    return [set(row.isfinite().nonzero()[:, 0].tolist()) for row in logits]


def naive_filter(row: list[float], top_k: int, top_p: float, min_p: float) -> set[int]:
    """Say in plain words which tokens top-k, then top-p, then min-p leave."""
    order = sorted(range(len(row)), key=lambda i: (-row[i], i))
    if top_k:
        kth = row[order[min(top_k, len(row)) - 1]]
        order = [i for i in order if row[i] >= kth]
    weights = {i: math.exp(row[i] - row[order[0]]) for i in order}
    total = sum(weights.values())
    left: set[int] = set()
    before = 0.0
    for i in order:
        if top_p >= 1 or before <= top_p:
            left.add(i)
        before += weights[i] / total
    return {i for i in left if weights[i] >= min_p * weights[order[0]] and weights[i] > 0}


LOGIT = st.one_of(st.integers(-6, 6).map(float), st.just(-math.inf))
ROW = st.lists(LOGIT, min_size=6, max_size=6).map(lambda row: [*row, 1.0])  # one at least is finite
FILTER = st.fixed_dictionaries(
    {
        "top_k": st.integers(0, 9),
        "top_p": st.sampled_from([0.05, 0.31, 0.62, 0.93, 1.0]),
        "min_p": st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    }
)


@given(st.lists(st.tuples(ROW, FILTER), min_size=1, max_size=4))
def test_filters_leave_what_the_naive_twin_leaves(rows: list[tuple[list[float], Any]]) -> None:
    logits = torch.tensor([row for row, _ in rows], dtype=torch.float64)
    filtered = filter_logits(logits, rules(*(changes for _, changes in rows)))
    assert kept(filtered) == [naive_filter(row, **changes) for row, changes in rows]
    assert torch.equal(filtered[filtered.isfinite()], logits[filtered.isfinite()])


def test_top_k_keeps_ties_with_the_kth() -> None:
    assert kept(filter_logits(torch.tensor([[3.0, 1, 2, 2, 0]]), rules({"top_k": 2}))) == [
        {0, 2, 3}
    ]


def test_top_p_keeps_the_token_that_crosses() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    for top_p, expected in ((0.4, {0}), (0.6, {0, 1}), (0.85, {0, 1, 2})):
        assert kept(filter_logits(logits, rules({"top_p": top_p}))) == [expected]


def test_min_p_is_a_fraction_of_the_likeliest() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    assert kept(filter_logits(logits, rules({"min_p": 0.5}))) == [{0, 1}]


def test_a_filter_touches_only_its_own_request() -> None:
    logits = torch.tensor([[1.0, 2, 3], [1.0, 2, 3]])
    assert kept(filter_logits(logits, rules({"top_k": 1}, {}))) == [{2}, {0, 1, 2}]


WEIGHTS = st.lists(st.sampled_from([0.0, 1e-30, 1e-7, 0.1, 1.0]), min_size=1, max_size=9)


@given(
    WEIGHTS.filter(any),
    st.sampled_from([0.0, 0.3, 0.5, 1 - 2.0**-24, LAST]),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_a_token_without_probability_is_never_drawn(
    weights: list[float], u: float, dtype: torch.dtype
) -> None:
    probs = torch.tensor([weights], dtype=dtype)
    index = int(draw(probs / probs.sum(), torch.tensor([u], dtype=torch.float64)))
    assert weights[index] > 0


def test_draws_follow_the_probabilities() -> None:
    probs = torch.tensor([0.1, 0.0, 0.6, 0.3])
    uniforms = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    drawn = draw(probs.expand(1000, 4), uniforms)
    assert torch.bincount(drawn, minlength=4).tolist() == [100, 0, 600, 300]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_only_drawable_ids_are_written(temperature: float) -> None:
    """Neither the mask id nor an id past the tokenizer, however likely the model finds them."""
    logits = torch.full((200, 6), 0.0)
    logits[:, [1, 4, 5]] = 50.0
    drawable = torch.tensor([True, False, True, True, False, False])
    row_rules = rules(*[{"temperature": temperature}] * 200)
    uniforms = torch.linspace(0, LAST, 200, dtype=torch.float64)
    proposal = propose(logits, drawable, uniforms, row_rules)
    assert set(proposal.tokens.tolist()) <= {0, 2, 3}
    torch.testing.assert_close(proposal.logprobs, torch.full((200,), 1 / 3).log())


def test_temperature_zero_is_argmax_with_the_logprobs_of_temperature_one() -> None:
    logits = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    greedy, plain = rules(*[{"temperature": 0}] * 50), rules(*[{}] * 50)
    everything = torch.ones(8, dtype=torch.bool)
    zeros = torch.zeros(50, dtype=torch.float64)
    proposal = propose(logits, everything, zeros, greedy)
    assert torch.equal(proposal.tokens, logits.argmax(-1))
    expected = logits.log_softmax(-1).amax(-1)
    assert torch.equal(proposal.logprobs, expected)
    assert not torch.equal(propose(logits, everything, zeros, plain).tokens, proposal.tokens)


def test_equal_logits_go_to_the_lowest_id() -> None:
    proposal = propose(
        torch.tensor([[1.0, 5, 5, 5]]),
        torch.ones(4, dtype=torch.bool),
        torch.zeros(1, dtype=torch.float64),
        rules({"temperature": 0}),
    )
    assert proposal.tokens.tolist() == [1]


@given(st.sampled_from([0.3, 1.0, 2.0]), FILTER, st.floats(0, 0.999))
def test_two_distributions_are_kept_apart(temperature: float, filters: Any, u: float) -> None:
    """Tokens and log-probabilities are of the proposal; raw confidence is the model's own."""
    logits = torch.tensor([[0.4, 2.0, -1.0, 1.1]], dtype=torch.float64)
    everything, at = torch.ones(4, dtype=torch.bool), torch.tensor([u], dtype=torch.float64)
    changes = {"temperature": temperature, **filters}
    raw = propose(logits, everything, at, rules({**changes, "confidence": "raw"}))
    filtered = propose(logits, everything, at, rules({**changes, "confidence": "filtered"}))
    token = int(raw.tokens)
    assert torch.equal(raw.tokens, filtered.tokens) and torch.equal(raw.logprobs, filtered.logprobs)
    left = naive_filter((logits[0] / temperature).tolist(), **filters)
    assert token in left
    weights = {i: math.exp(float(logits[0, i]) / temperature) for i in left}
    share = weights[token] / sum(weights.values())
    assert math.isclose(float(raw.logprobs.exp()), share, rel_tol=1e-12)
    assert math.isclose(float(filtered.confidence), share, rel_tol=1e-12)
    assert math.isclose(float(raw.confidence), float(logits.softmax(-1)[0, token]), rel_tol=1e-12)


@given(st.integers(1, 40), st.integers(1, 40))
def test_quotas_split_a_block_evenly(num_masks: int, steps: int) -> None:
    taken = min(steps, num_masks)
    step = torch.arange(taken)
    quotas = quota(torch.full((taken,), num_masks), torch.full((taken,), steps), step).tolist()
    assert sum(quotas) == num_masks
    assert quotas == sorted(quotas, reverse=True) and quotas[0] - quotas[-1] <= 1
    assert quotas[-1] >= 1


@st.composite
def selections(draw: st.DrawFn) -> tuple[list[float], list[bool], int, float]:
    size = draw(st.integers(1, 8))
    score = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
    return (
        draw(st.lists(score, min_size=size, max_size=size)),
        draw(st.lists(st.booleans(), min_size=size, max_size=size)),
        draw(st.integers(1, 9)),
        draw(st.sampled_from([0.0, 0.25, 0.6, 1.0, math.inf])),
    )


@settings(max_examples=300)
@given(selections())
def test_selection_takes_all_above_the_threshold_or_the_best(
    case: tuple[list[float], list[bool], int, float],
) -> None:
    scores, hidden, least, threshold = case
    chosen = select(
        torch.tensor([scores]),
        torch.tensor([hidden]),
        torch.tensor([least]),
        torch.tensor([threshold]),
    )[0].tolist()
    slots = [i for i, is_hidden in enumerate(hidden) if is_hidden]
    above = [i for i in slots if scores[i] > threshold]
    best = sorted(slots, key=lambda i: (-scores[i], i))[:least]
    expected = set(above if len(above) >= least else best)
    assert {i for i, c in enumerate(chosen) if c} == expected
    assert expected <= set(slots)
    assert min(least, len(slots)) <= len(expected)


def step_of(request: dict[str, Any], hidden: Tensor, least: int = 1, step: int = 0) -> Tensor:
    """Return which slots one request would reveal of fixed logits, most confident in the middle."""
    logits = torch.tensor([[0.0, 0, 0], [2, 0, 0], [5, 0, 0], [1, 0, 0]])[hidden[0]]
    positions = torch.arange(8, 12)[None]
    steps = (torch.tensor([step]), torch.tensor([least]))
    everything = torch.ones(3, dtype=torch.bool)
    return reveal(logits, hidden, positions, steps, rules(request), everything).chosen[0]


def test_strategies_choose_by_their_name() -> None:
    hidden = torch.tensor([[True, True, True, True]])
    greedy = {"temperature": 0}
    static = step_of({"strategy": "static", **greedy}, hidden, 2)
    assert static.tolist() == [False, True, True, False]
    left = step_of({"strategy": "left_to_right", **greedy}, hidden, 2)
    assert left.tolist() == [True, True, False, False]
    dynamic = {"strategy": "dynamic", "threshold": 0.5, **greedy}
    assert step_of(dynamic, hidden).tolist() == [False, True, True, True]
    assert step_of({**dynamic, "threshold": 0.9}, hidden).tolist() == [False, False, True, False]
    assert step_of({**dynamic, "threshold": 0.999}, hidden, 2).tolist() == [
        False,
        True,
        True,
        False,
    ]
    orders = {
        tuple(step_of({"strategy": "random", **greedy}, hidden, 2, step).tolist())
        for step in range(50)
    }
    assert len(orders) == 6 and all(sum(order) == 2 for order in orders)


def test_left_to_right_skips_revealed_slots_and_never_overwrites_them() -> None:
    hidden = torch.tensor([[False, True, False, True]])
    for strategy in ("static", "dynamic", "random", "left_to_right"):
        chosen = step_of({"strategy": strategy, "temperature": 0}, hidden, 4)
        assert chosen.tolist() == hidden[0].tolist()


def test_a_step_does_not_depend_on_its_company() -> None:
    """Requests, slots and padding rows beside it leave what a request reveals as it is."""
    generator = torch.Generator().manual_seed(1)
    hidden = torch.rand(6, 4, generator=generator) < 0.6
    logits = torch.randn(int(hidden.sum()) + 5, 16, generator=generator)
    kinds = ("static", "dynamic", "random", "left_to_right", "dynamic", "random")
    requests = [
        {"strategy": kind, "seed": seed, "threshold": 0.2, "top_k": 3 * (seed % 2)}
        for seed, kind in enumerate(kinds)
    ]
    positions = torch.arange(24).view(6, 4)
    steps, least = torch.arange(6), torch.tensor([1, 2, 1, 3, 1, 2])
    everything = torch.ones(16, dtype=torch.bool)
    together = reveal(logits, hidden, positions, (steps, least), rules(*requests), everything)
    assert not (together.chosen & ~hidden).any()
    starts = hidden.sum(1).cumsum(0) - hidden.sum(1)
    for i in range(6):
        own = logits[starts[i] : starts[i] + hidden[i].sum()]
        one = slice(i, i + 1)
        alone = reveal(
            own,
            hidden[one],
            positions[one],
            (steps[one], least[one]),
            rules(requests[i]),
            everything,
        )
        for part, other in zip(alone, together, strict=True):
            assert torch.equal(part[0], other[i])


def test_draws_are_keyed_by_seed_position_and_denoising_step() -> None:
    logits, everything = torch.zeros(4, 1000), torch.ones(1000, dtype=torch.bool)
    hidden, positions = torch.ones(1, 4, dtype=torch.bool), torch.arange(8, 12)[None]
    least = torch.tensor([1])
    for seed, step in ((5, 0), (5, 1), (6, 0)):
        taken = torch.tensor([step])
        result = reveal(
            logits, hidden, positions, (taken, least), rules({"seed": seed}), everything
        )
        uniforms = uniform(torch.tensor(seed), positions[0], taken, TOKEN)
        assert torch.equal(result.tokens[0], draw(logits.softmax(-1), uniforms))


def test_rules_are_taken_and_joined_with_all_their_columns() -> None:
    first, second = rules({"seed": 1}, {"seed": 2, "strategy": "random"}), rules({"top_k": 3})
    joined = first.join(second)
    assert joined.seed.tolist() == [1, 2, 0] and joined.top_k.tolist() == [0, 0, 3]
    assert joined.has_filters and not first.has_filters
    again = joined.take(torch.tensor([1, 1, 0]))
    assert again.seed.tolist() == [2, 2, 1] and again.strategy.tolist() == [2, 2, 1]
