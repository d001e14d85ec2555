"""The law of structured output, against enumeration of every canvas of a tiny vocabulary."""

import itertools
import random
from collections.abc import Sequence

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from tests.diffusion.automata import automaton_of, random_pattern
from tests.diffusion.requests import sampling
from unmask.diffusion.constrained import (
    Constraint,
    Span,
    check_work,
    class_masses,
    draw_jointly,
    likeliest,
    on_span,
    propose_jointly,
    run_filter,
)

LETTERS = "abc"
STOP = 0  # ids: the stop token, the mask, then the letters
DRAWABLE = torch.tensor([True, False, True, True, True])


def accepted(constraint: Constraint, tokens: Sequence[int]) -> bool:
    """Return whether a whole response is acceptable, by walking it."""
    state = constraint.automaton.walk(tokens)
    return state >= 0 and int(constraint.automaton.distance[state]) == 0


def enumerate_law(
    constraint: Constraint, span: Span, before: Sequence[int], logprobs: Tensor
) -> dict:
    """Return the probability of every draw: the product law, rejected until acceptable.

    The rest of the response right of the span must be able to complete it: tried out one by one.
    """
    ids = [i for i, is_drawable in enumerate(DRAWABLE.tolist()) if is_drawable]
    rest = constraint.max_tokens - len(before) - len(span.tokens)
    law = {}
    for drawn in itertools.product(ids, repeat=int(span.is_open.sum())):
        found, canvas = iter(drawn), [*before]
        for token, is_open in zip(span.tokens.tolist(), span.is_open.tolist(), strict=True):
            canvas.append(next(found) if is_open else token)
        tails = itertools.product(ids, repeat=rest)
        if any(accepted(constraint, [*canvas, *tail]) for tail in tails):
            law[drawn] = sum(float(logprobs[i, token]) for i, token in enumerate(drawn))
    total = torch.tensor(list(law.values()), dtype=torch.float64).logsumexp(0)
    return {drawn: float((value - total).exp()) for drawn, value in law.items()}


def random_case(seed: int) -> tuple[Constraint, Span, list[int], Tensor]:
    """Return a random pattern, a partly filled canvas that can be completed, and log-probabilities."""
    rng = random.Random(seed)
    while True:
        automaton = automaton_of(random_pattern(rng, LETTERS), LETTERS)
        length = rng.randrange(3, 6)
        try:
            constraint = Constraint.of(automaton, length)
        except ValueError:
            continue
        ids = [0, 2, 3, 4]
        whole = [t for t in itertools.product(ids, repeat=length) if accepted(constraint, t)]
        tokens = list(rng.choice(whole))
        first = rng.randrange(length)
        block = tokens[: rng.randrange(first + 1, length + 1)]
        opened = sorted({first, *(p for p in range(first, len(block)) if rng.random() < 0.7)})
        steps = [0 if p in opened else 1 for p in range(len(block))]
        span = constraint.span(
            [1 if p in opened else t for p, t in enumerate(block)], steps, opened
        )
        assert span is not None
        generator = torch.Generator().manual_seed(seed)
        logits = 3 * torch.randn(len(opened), 5, generator=generator, dtype=torch.float64)
        logprobs = logits.masked_fill(~DRAWABLE, -torch.inf).log_softmax(-1)
        return constraint, span, tokens[:first], logprobs


@pytest.mark.parametrize("seed", range(30))
def test_probabilities_are_those_of_rejection(seed: int) -> None:
    """Weight of every class, and log-probability of every token, against enumeration: to 1e-12."""
    constraint, span, before, logprobs = random_case(seed)
    law = enumerate_law(constraint, span, before, logprobs)
    uniforms = torch.full((2, len(logprobs)), 0.5, dtype=torch.float64)
    for drawn, probability in law.items():
        # The chain of conditionals along which a draw goes gives the probability of the whole draw.
        assert chain(span, logprobs, drawn) == pytest.approx(probability, rel=1e-11, abs=1e-13)
    held = torch.ones(len(logprobs), dtype=torch.int64)
    rows = sampling({"strategy": "margin"}).take(torch.zeros(len(logprobs), dtype=torch.int64))
    proposal = propose_jointly(logprobs, DRAWABLE, uniforms, held, rows, span)
    for row, token in enumerate(proposal.tokens.tolist()):
        marginal = sum(p for drawn, p in law.items() if drawn[row] == token)
        assert float(proposal.logprobs[row].exp()) == pytest.approx(marginal, rel=1e-11)
        assert float(proposal.confidence[row]) == pytest.approx(marginal, rel=1e-11)
        others = [sum(p for d, p in law.items() if d[row] == i) for i in (0, 2, 3, 4)]
        best = sorted(others)[-2:]
        assert float(proposal.margin[row]) == pytest.approx(best[1] - best[0], abs=1e-11)
        entropy = -sum(p * torch.tensor(p).log().item() for p in others if p)
        assert float(proposal.spread[row]) == pytest.approx(entropy, abs=1e-6)
    masses = class_masses(logprobs, span.automaton)
    greedy = tuple(likeliest(masses, span).tolist())
    assert law[greedy] == pytest.approx(max(law.values()), rel=1e-12)


def chain(span: Span, logprobs: Tensor, drawn: Sequence[int]) -> float:
    """Return the probability of a draw as the product of the choices it is made of."""
    masses = class_masses(logprobs, span.automaton)
    found = run_filter(on_span(masses.log, span), span)
    assert found is not None
    automaton, state, probability, row = span.automaton, span.state, 1.0, 0
    for position, is_open in enumerate(span.is_open.tolist()):
        token = drawn[row] if is_open else int(span.tokens[position])
        its = int(automaton.classes[token])
        if is_open:
            target = automaton.table[state]
            through = found.log[position] + found.beta[position + 1, target]
            weights = through.exp() * (target >= 0)
            inside = masses.weights[row, automaton.classes == its].sum()
            probability *= float(weights[its] / weights.sum() * masses.weights[row, token] / inside)
            row += 1
        state = int(automaton.table[state, its])
    return probability


@pytest.mark.parametrize("seed", range(6))
def test_frequencies_are_those_of_rejection(seed: int) -> None:
    constraint, span, before, logprobs = random_case(seed + 1000)
    law = enumerate_law(constraint, span, before, logprobs)
    masses = class_masses(logprobs, span.automaton)
    found = run_filter(on_span(masses.log, span), span)
    assert found is not None
    generator = torch.Generator().manual_seed(seed)
    counts = dict.fromkeys(law, 0)
    total = 1500
    for _ in range(total):
        uniforms = torch.rand(2, len(logprobs), generator=generator, dtype=torch.float64)
        counts[tuple(draw_jointly(masses, found, span, uniforms).tolist())] += 1
    often = {drawn for drawn, p in law.items() if p * total >= 5}
    expected = [law[drawn] * total for drawn in often]
    observed = [counts[drawn] for drawn in often]
    rest = total - sum(expected)
    if rest > 1e-9:
        expected.append(rest)
        observed.append(total - sum(observed))
    if len(expected) > 1:
        assert chisquare(observed, expected).pvalue > 1e-4


def test_whatever_is_revealed_the_rest_can_be_completed() -> None:
    """By exhaustion: every subset of every draw leaves a canvas with an acceptable completion."""
    for seed in range(12):
        constraint, span, before, logprobs = random_case(seed + 2000)
        law = enumerate_law(constraint, span, before, logprobs)
        opened = span.is_open.nonzero()[:, 0].tolist()
        for drawn in law:
            for kept in itertools.product([True, False], repeat=len(opened)):
                tokens, steps = (
                    [*before, *span.tokens.tolist()],
                    [1] * (len(before) + len(span.tokens)),
                )
                for place, token, stays in zip(opened, drawn, kept, strict=True):
                    tokens[len(before) + place] = token
                    steps[len(before) + place] = int(stays)
                left = [p for p, step in enumerate(steps) if not step]
                if left:
                    again = constraint.span(tokens, steps, left)
                    assert again is not None
                    rows = torch.zeros(len(left), 5, dtype=torch.float64)
                    rows = rows.masked_fill(~DRAWABLE, -torch.inf).log_softmax(-1)
                    masses = class_masses(rows, again.automaton)
                    assert run_filter(on_span(masses.log, again), again) is not None


@pytest.mark.parametrize("changes", [{"top_k": 1}, {"top_p": 0.01}, {"min_p": 1.0}])
def test_filters_that_leave_nothing_acceptable_are_passed_over(changes: dict) -> None:
    automaton = automaton_of("ab", LETTERS)
    span = Constraint.of(automaton, 3).span([1, 1, 1], [0, 0, 0], [0, 1, 2])
    assert span is not None
    logits = torch.zeros(3, 5)
    logits[:, 4] = 9.0  # c, which stands nowhere
    rows = sampling(changes).take(torch.zeros(3, dtype=torch.int64))
    held, uniforms = torch.ones(3, dtype=torch.int64), torch.full((2, 3), 0.5)
    assert propose_jointly(logits, DRAWABLE, uniforms, held, rows, span).tokens.tolist() == [
        2,
        3,
        STOP,
    ]


def test_filters_come_before_the_condition() -> None:
    automaton = automaton_of("a|b|c", LETTERS)
    span = Constraint.of(automaton, 1).span([1], [0], [0])
    assert span is not None
    logits = torch.tensor([[5.0, 0.0, 3.0, 2.0, 1.0]])  # the stop token is likeliest, then a, b, c
    rows = sampling({"top_k": 3}).take(torch.zeros(1, dtype=torch.int64))
    uniforms = torch.tensor([[0.999], [0.999]], dtype=torch.float64)
    found = propose_jointly(
        logits, DRAWABLE, uniforms, torch.ones(1, dtype=torch.int64), rows, span
    )
    assert found.tokens.tolist() == [3], "c is filtered out"
    expected = torch.tensor([3.0, 2.0]).log_softmax(-1)[1]
    assert float(found.logprobs[0]) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("temperature", [1e-6, 1e-3, 0.05])
def test_logits_of_any_size_leave_an_acceptable_draw(temperature: float) -> None:
    """Probabilities far below the smallest number: what the model wants is never acceptable."""
    automaton = automaton_of("(ab|ba){3}", LETTERS)
    constraint = Constraint.of(automaton, 8)
    span = constraint.span([1] * 8, [0] * 8, range(8))
    assert span is not None
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        logits = 20 * torch.randn(8, 5, generator=generator)
        uniforms = torch.rand(2, 8, generator=generator, dtype=torch.float64)
        rows = sampling({"temperature": temperature}).take(torch.zeros(8, dtype=torch.int64))
        held = torch.ones(8, dtype=torch.int64)
        found = propose_jointly(logits, DRAWABLE, uniforms, held, rows, span)
        assert accepted(constraint, found.tokens.tolist())
        assert found.logprobs.isfinite().all() and (found.confidence <= 1).all()


def test_broken_logits_are_left_to_the_caller() -> None:
    automaton = automaton_of("a*", LETTERS)
    span = Constraint.of(automaton, 3).span([1, 1, 1], [0, 0, 0], [0, 1, 2])
    assert span is not None
    logits = torch.zeros(3, 5)
    logits[1, 3] = torch.nan  # one is enough: what the others draw could not be completed
    rows = sampling({}).take(torch.zeros(3, dtype=torch.int64))
    held, uniforms = torch.ones(3, dtype=torch.int64), torch.full((2, 3), 0.5)
    assert propose_jointly(logits, DRAWABLE, uniforms, held, rows, span).raw_logprobs.isnan().all()


def test_a_response_that_cannot_fit_is_refused() -> None:
    automaton = automaton_of("a{5}", LETTERS)
    with pytest.raises(ValueError, match="needs at least 5 tokens, and max_tokens = 4; raise"):
        Constraint.of(automaton, 4)
    with pytest.raises(ValueError, match=r"no response of 6 tokens .* holds the pinned tokens"):
        Constraint.of(automaton, 6, ((3, 3),))
    assert Constraint.of(automaton, 6, ((3, 2),)).until_pinned.shape[0] == 4


def test_pinned_tokens_further_right_count() -> None:
    """Only one way through a pinned token is left, and the draw left of it takes it."""
    automaton = automaton_of("(a{2}|b{4})c", LETTERS)
    constraint = Constraint.of(automaton, 6, ((4, 4),))
    span = constraint.span([1, 1], [0, 0], [0, 1])
    assert span is not None
    masses = class_masses(torch.zeros(2, 5, dtype=torch.float64).log_softmax(-1), automaton)
    assert likeliest(masses, span).tolist() == [3, 3]


@pytest.mark.parametrize("seed", range(30))
def test_draws_of_nearly_certain_models_are_the_likeliest(seed: int) -> None:
    """Where a forbidden token is the likeliest by far, the allowed ones keep their own ratio."""
    constraint, span, before, logprobs = random_case(seed)
    law = enumerate_law(constraint, span, before, logprobs)
    sharp = (4000 * logprobs).log_softmax(-1)
    masses = class_masses(sharp, span.automaton)
    found = run_filter(on_span(masses.log, span), span)
    assert found is not None
    scores = {
        drawn: float(sum(sharp[row, token] for row, token in enumerate(drawn)))
        for drawn, probability in law.items()
        if probability
    }
    best = max(scores, key=lambda drawn: scores[drawn])
    rest = [score for drawn, score in scores.items() if drawn != best]
    if rest and scores[best] - max(rest) < 40:
        return
    for start in (1e-9, 0.3, 0.6, 0.9999):
        uniforms = torch.full((2, len(sharp)), start, dtype=torch.float64)
        assert tuple(draw_jointly(masses, found, span, uniforms).tolist()) == best


def test_automata_that_take_too_long_are_refused() -> None:
    automaton = automaton_of("[ab]*", "ab")
    check_work(automaton, 10)
    with pytest.raises(ValueError, match="lower block_size or max_tokens"):
        check_work(automaton, 2**27)
