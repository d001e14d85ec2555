"""What a position would write: filters, draws and the two distributions, against naive twins."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.diffusion.requests import sampling
from unmask.diffusion import token_sampling
from unmask.diffusion.token_sampling import draw, filter_logits, propose

LAST = 1 - 2.0**-53  # the largest number `uniform` returns


def kept(logits: Tensor) -> list[set[int]]:
    return [set(row.isfinite().nonzero()[:, 0].tolist()) for row in logits]


def naive_filter(row: list[float], top_k: int, top_p: float, min_p: float) -> set[int]:
    """Return the tokens that top-k, then top-p, then min-p leave, by a naive loop."""
    order = sorted(range(len(row)), key=lambda i: (-row[i], i))
    if top_k > 0:
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
        "top_k": st.integers(-1, 9),
        "top_p": st.sampled_from([0.05, 0.31, 0.62, 0.93, 1.0]),
        "min_p": st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    }
)


@given(st.lists(st.tuples(ROW, FILTER), min_size=1, max_size=4))
def test_filters_leave_what_the_naive_twin_leaves(rows: list[tuple[list[float], Any]]) -> None:
    logits = torch.tensor([row for row, _ in rows], dtype=torch.float64)
    filtered = filter_logits(logits, sampling(*(changes for _, changes in rows)))
    assert kept(filtered) == [naive_filter(row, **changes) for row, changes in rows]
    assert torch.equal(filtered[filtered.isfinite()], logits[filtered.isfinite()])


def test_top_k_keeps_ties_with_the_kth() -> None:
    assert kept(filter_logits(torch.tensor([[3.0, 1, 2, 2, 0]]), sampling({"top_k": 2}))) == [
        {0, 2, 3}
    ]


def test_top_p_keeps_the_token_that_crosses() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    for top_p, expected in ((0.4, {0}), (0.6, {0, 1}), (0.85, {0, 1, 2})):
        assert kept(filter_logits(logits, sampling({"top_p": top_p}))) == [expected]


def test_min_p_is_a_fraction_of_the_likeliest() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    assert kept(filter_logits(logits, sampling({"min_p": 0.5}))) == [{0, 1}]


def test_a_filter_touches_only_its_own_request() -> None:
    logits = torch.tensor([[1.0, 2, 3], [1.0, 2, 3]])
    assert kept(filter_logits(logits, sampling({"top_k": 1}, {}))) == [{2}, {0, 1, 2}]


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


@pytest.mark.parametrize("temperature", [0.0, 1e-6, 1e6])
def test_every_temperature_gives_numbers_and_drawable_ids(temperature: float) -> None:
    logits = torch.randn(200, 6, generator=torch.Generator().manual_seed(0)) * 30
    logits[:, 3] = -torch.inf  # an id the model bans
    drawable = torch.tensor([True, False, True, True, True, False])
    row_sampling = sampling(*[{"temperature": temperature}] * 200)
    uniforms = torch.linspace(0, LAST, 200, dtype=torch.float64)
    proposal = propose(
        logits, drawable, uniforms, torch.zeros(200, dtype=torch.int64), row_sampling
    )
    assert set(proposal.tokens.tolist()) == {0, 2, 4}
    assert all(values.isfinite().all() for values in proposal)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_only_drawable_ids_are_written(temperature: float) -> None:
    """Neither the mask id nor an id past the tokenizer, however likely the model finds them."""
    logits = torch.full((200, 6), 0.0)
    logits[:, [1, 4, 5]] = 50.0
    drawable = torch.tensor([True, False, True, True, False, False])
    row_sampling = sampling(*[{"temperature": temperature}] * 200)
    uniforms = torch.linspace(0, LAST, 200, dtype=torch.float64)
    proposal = propose(
        logits, drawable, uniforms, torch.zeros(200, dtype=torch.int64), row_sampling
    )
    assert set(proposal.tokens.tolist()) <= {0, 2, 3}
    torch.testing.assert_close(proposal.logprobs, torch.full((200,), 1 / 3).log())


def test_temperature_zero_is_argmax_with_the_logprobs_of_temperature_one() -> None:
    logits = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    greedy, plain = sampling(*[{"temperature": 0}] * 50), sampling(*[{}] * 50)
    everything = torch.ones(8, dtype=torch.bool)
    zeros = torch.zeros(50, dtype=torch.float64)
    held = torch.zeros(50, dtype=torch.int64)
    proposal = propose(logits, everything, zeros, held, greedy)
    assert torch.equal(proposal.tokens, logits.argmax(-1))
    expected = logits.log_softmax(-1).amax(-1)
    assert torch.equal(proposal.logprobs, expected)
    assert not torch.equal(propose(logits, everything, zeros, held, plain).tokens, proposal.tokens)


def test_equal_logits_go_to_the_lowest_id() -> None:
    proposal = propose(
        torch.tensor([[1.0, 5, 5, 5]]),
        torch.ones(4, dtype=torch.bool),
        torch.zeros(1, dtype=torch.float64),
        torch.tensor([3]),
        sampling({"temperature": 0}),
    )
    assert proposal.tokens.tolist() == [1]


@given(st.sampled_from([0.3, 1.0, 2.0]), FILTER, st.floats(0, 0.999))
def test_two_distributions_are_kept_apart(temperature: float, filters: Any, u: float) -> None:
    """Tokens and log-probabilities are of the proposal; raw confidence is the model's own."""
    logits = torch.tensor([[0.4, 2.0, -1.0, 1.1]], dtype=torch.float64)
    everything, at = torch.ones(4, dtype=torch.bool), torch.tensor([u], dtype=torch.float64)
    changes, held = {"temperature": temperature, **filters}, torch.tensor([2])
    raw = propose(logits, everything, at, held, sampling({**changes, "confidence": "raw"}))
    filtered = propose(
        logits, everything, at, held, sampling({**changes, "confidence": "filtered"})
    )
    token = int(raw.tokens)
    assert torch.equal(raw.tokens, filtered.tokens) and torch.equal(raw.logprobs, filtered.logprobs)
    left = naive_filter((logits[0] / temperature).tolist(), **filters)
    assert token in left
    weights = {i: math.exp(float(logits[0, i]) / temperature) for i in left}
    share = weights[token] / sum(weights.values())
    assert math.isclose(float(raw.logprobs.exp()), share, rel_tol=1e-12)
    assert math.isclose(float(filtered.confidence), share, rel_tol=1e-12)
    assert math.isclose(float(raw.confidence), float(logits.softmax(-1)[0, token]), rel_tol=1e-12)


def naive_entropy(probs: list[float]) -> float:
    return -sum(p * math.log(p) for p in probs if p > 0)


def softmax(row: dict[int, float]) -> dict[int, float]:
    total = sum(math.exp(z) for z in row.values())
    return {i: math.exp(z) / total for i, z in row.items()}


@given(
    st.lists(st.integers(-5, 5).map(float), min_size=5, max_size=5),
    st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    FILTER,
    st.booleans(),
    st.integers(0, 4),
)
def test_every_number_of_a_proposal_against_its_naive_twin(
    row: list[float], temperature: float, filters: Any, is_filtered: bool, held: int
) -> None:
    """Id 1 is not drawable: it is in no distribution, be it held or not."""
    logits = torch.tensor([row], dtype=torch.float64)
    drawable = torch.tensor([True, False, True, True, True])
    changes = {"temperature": temperature, **filters, "strategy": "margin"}
    own = sampling({**changes, "confidence": "filtered" if is_filtered else "raw"})
    result = propose(logits, drawable, torch.tensor([0.4]), torch.tensor([held]), own)
    raw = softmax({i: z for i, z in enumerate(row) if i != 1})
    tempered = [-math.inf if i == 1 else z / (temperature or 1) for i, z in enumerate(row)]
    left = naive_filter(tempered, **filters)
    proposal = softmax({i: tempered[i] for i in left})
    ranking = proposal if is_filtered else raw
    token = int(result.tokens)
    if temperature == 0:
        assert token == min(raw, key=lambda i: (-raw[i], i))
    best = sorted([*ranking.values(), 0.0], reverse=True)
    expected = {
        "logprobs": math.log(proposal[token]),
        "raw_logprobs": math.log(raw[token]),
        "entropy": naive_entropy([*raw.values()]),
        "confidence": ranking[token],
        "margin": best[0] - best[1],
        "spread": naive_entropy([*ranking.values()]),
        "held": raw.get(held, 0.0),
    }
    found = {name: float(getattr(result, name)) for name in expected}
    assert found == pytest.approx(expected, abs=1e-12)


def test_company_changes_no_bit_of_a_row() -> None:
    """Features that other rows need are computed for all; the other rows keep their values."""
    logits = torch.randn(1, 30, generator=torch.Generator().manual_seed(3))
    everything = torch.ones(30, dtype=torch.bool)
    alone = propose(logits, everything, torch.tensor([0.3]), torch.tensor([4]), sampling({}))
    others = [
        {"top_k": 3, "temperature": 0.5, "confidence": "filtered"},
        {"strategy": "margin", "edit_threshold": 0.5},
    ]
    together = propose(
        logits.expand(3, 30),
        everything,
        torch.full((3,), 0.3),
        torch.full((3,), 4),
        sampling({}, *others),
    )
    for name in set(alone._fields) - {"margin"}:
        assert torch.equal(getattr(alone, name)[0], getattr(together, name)[0]), name


def test_rows_in_chunks_are_the_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit, with a last chunk that is not full, for everything that requests may need."""
    generator = torch.Generator().manual_seed(5)
    logits, everything = torch.randn(7, 30, generator=generator), torch.ones(30, dtype=torch.bool)
    uniforms, held = torch.rand(7, generator=generator), torch.arange(7)
    asks = [{}, {"temperature": 0}, {"top_k": 3, "temperature": 0.5, "confidence": "filtered"}]
    own = sampling(*asks, {"strategy": "margin"}, {"min_p": 0.1}, {}, {"temperature": 2.0})
    before = logits.clone()
    whole = propose(logits, everything, uniforms, held, own)
    monkeypatch.setattr(token_sampling, "MOST_ELEMENTS", 3 * 30)
    chunked = propose(logits, everything, uniforms, held, own)
    assert all(map(torch.equal, whole, chunked))
    assert torch.equal(logits, before), "the logits are the caller's"


class FullSize(TorchDispatchMode):
    """Counts the tensors of a size that operations allocate."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.found = size, []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        is_new = isinstance(out, torch.Tensor) and not func._schema.name.endswith("_")
        if is_new and out.numel() == self.size and out.dtype == torch.float32:
            self.found.append(func._schema.name.removeprefix("aten::"))
        return out


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"temperature": 0}, ["clamp", "_log_softmax", "exp"]),
        ({}, ["clamp", "_log_softmax", "exp", "cumsum"]),
        (
            {"temperature": 0.5},
            ["clamp", "_log_softmax", "exp", "_log_softmax", "exp", "cumsum"],
        ),
    ],
)
def test_a_step_allocates_few_tensors_of_all_logits(changes: Any, expected: list[str]) -> None:
    logits, everything = torch.randn(3, 30), torch.ones(30, dtype=torch.bool)
    with FullSize(90) as counted:
        propose(logits, everything, torch.rand(3), torch.arange(3), sampling(*[changes] * 3))
    assert counted.found == expected
