"""One denoising step: quotas, orders, allowances, edits and masks, against naive twins."""

import math
from bisect import bisect_left
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.diffusion.requests import sampling
from unmask.diffusion.keyed_random import ORDER, TOKEN, uniform
from unmask.diffusion.sampling_tensors import (
    ENTROPY_SUMS,
    SCHEDULES,
    STRATEGIES,
    SamplingTensors,
)
from unmask.diffusion.token_sampling import Proposal, draw
from unmask.diffusion.unmask import (
    ALLOWANCES,
    RANKINGS,
    TIME_END,
    Block,
    Reveal,
    allowance,
    doubted,
    open_now,
    quota,
    rank_positions,
    scored_positions,
    select,
)
from unmask.diffusion.unmask import reveal as take_step

SIZES = st.integers(1, 40)


def quotas_of(num_masks: int, **changes: Any) -> list[int]:
    """Return the counts that one block's steps reveal when each reveals just its quota."""
    own, left, step = sampling(changes), num_masks, torch.tensor([0])
    revealed: list[int] = []
    while left:
        quotas, step = quota(torch.tensor([num_masks]), torch.tensor([left]), step, own)
        revealed.append(min(int(quotas), left))
        left -= revealed[-1]
    return revealed


@given(SIZES, SIZES)
def test_even_quotas_split_the_masks(num_masks: int, steps: int) -> None:
    found = quotas_of(num_masks, block_size=40, denoising_steps=steps)
    taken = min(steps, num_masks)
    assert found == [num_masks // taken + (s < num_masks % taken) for s in range(taken)]


@given(SIZES, SIZES, SIZES)
def test_block_quotas_split_the_positions(num_masks: int, more: int, steps: int) -> None:
    """SDAR's: a first block that is partly prompt is written in fewer steps."""
    block = num_masks + more - 1
    taken = min(steps, block)
    expected, left = [], num_masks
    for step in range(taken):
        expected.append(min(left, block // taken + (step < block % taken)))
        left -= expected[-1]
    found = quotas_of(num_masks, block_size=block, denoising_steps=steps, schedule="block")
    assert found == [number for number in expected if number]


def dream_loop(num_masks: int, steps: int) -> list[int]:
    """Walk Dream's time grid as its program does, and leave out the steps that reveal nothing."""
    grid = torch.linspace(1, TIME_END, steps + 1, dtype=torch.float64).tolist()
    left, revealed = num_masks, []
    for index, (t, s) in enumerate(pairwise(grid)):
        number = left if index == steps - 1 else int(left * (1 - s / t))
        left -= number
        revealed += [number] * (number > 0)
    return revealed


@given(st.integers(1, 200), st.integers(1, 200))
def test_linear_quotas_walk_the_time_grid(num_masks: int, steps: int) -> None:
    found = quotas_of(num_masks, block_size=200, denoising_steps=steps, schedule="linear")
    assert found == dream_loop(num_masks, steps)


def test_a_published_grid_loses_and_catches_up() -> None:
    assert dream_loop(32, 32) == [1] * 30 + [2]
    assert quotas_of(32, block_size=32, schedule="linear") == [1] * 30 + [2]


def maskgit_loop(num_masks: int, steps: int) -> list[int]:
    """Walk the cosine as MMaDA's program does, in fp32, and leave out the steps that reveal nothing."""
    left, revealed = num_masks, []
    for step in range(1, steps + 1):
        ratio = torch.cos(torch.tensor(step / steps) * math.pi * 0.5)
        kept = max(1, min(left - 1, int((num_masks * ratio).floor())))
        kept = kept if step < steps else 0
        revealed += [left - kept] * (left > kept)
        left = kept
    return revealed


@given(st.integers(1, 200), st.integers(1, 200))
def test_cosine_quotas_are_maskgit_s(num_masks: int, steps: int) -> None:
    found = quotas_of(num_masks, block_size=200, denoising_steps=steps, schedule="cosine")
    assert found == maskgit_loop(num_masks, steps)


def test_cosine_quotas_of_a_whole_image() -> None:
    found = quotas_of(1024, block_size=1024, denoising_steps=15, schedule="cosine")
    assert found == maskgit_loop(1024, 15)
    assert 1024 - sum(found[:10]) == 511  # half of them in exact arithmetic


def test_quotas_are_each_request_s_own() -> None:
    own = sampling(*({"schedule": name, "denoising_steps": 2} for name in SCHEDULES))
    three = torch.full((4,), 3)
    quotas, step = quota(three, three, torch.zeros_like(three), own)
    assert quotas.tolist() == [2, 2, 1, 1] and step.tolist() == [1, 1, 1, 1]


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(1, 12))
def test_only_the_leftmost_unfinished_sub_block_is_open(hidden: list[bool], size: int) -> None:
    own = sampling({"block_size": 12, "sub_block_size": size})
    found = open_now(torch.tensor([hidden]), own)[0].tolist()
    parts = [i // size for i, is_hidden in enumerate(hidden) if is_hidden]
    assert found == [h and i // size == min(parts) for i, h in enumerate(hidden)]


NUMBER = st.sampled_from([0.0, 0.25, 0.5, 0.5, 0.75, 0.9, 1.0])
NUM_SLOTS = 6
ROW = st.lists(NUMBER, min_size=NUM_SLOTS, max_size=NUM_SLOTS)
FLAGS = st.lists(st.booleans(), min_size=NUM_SLOTS, max_size=NUM_SLOTS)


def proposal_of(**columns: list[float]) -> Proposal:
    """Return a `(1, K)` proposal with the columns given, the others zero."""
    zeros = torch.zeros(1, NUM_SLOTS, dtype=torch.float64)
    values = {name: torch.tensor([row], dtype=torch.float64) for name, row in columns.items()}
    return Proposal(**{name: values.get(name, zeros) for name in Proposal._fields})


def reveal(logits: Tensor, block: Block, own: SamplingTensors, drawable: Tensor) -> Reveal:
    """Take a step with the logits of the scored positions, in their order."""
    request, column = scored_positions(block, own).nonzero(as_tuple=True)
    return take_step(logits, block, (request, column), own, drawable)


def block_of(
    hidden: list[bool], written: list[bool] | None = None, taken: int = 0, least: int = 1
) -> Block:
    """Return one block at positions 8, 9, ... that holds token 2 everywhere."""
    hidden_row = torch.tensor([hidden])
    return Block(
        tokens=torch.full_like(hidden_row, 2, dtype=torch.int64),
        hidden=hidden_row,
        written=~hidden_row if written is None else torch.tensor([written]),
        positions=torch.arange(8, 8 + len(hidden))[None],
        taken=torch.tensor([taken]),
        step=torch.tensor([taken + 1]),
        quotas=torch.tensor([least]),
    )


def naive_scores(strategy: str, columns: dict[str, list[float]]) -> list[float]:
    """Return the scores by which each strategy ranks positions, higher first."""
    if strategy == "margin":
        return columns["margin"]
    if strategy in ("entropy", "entropy_bounded"):
        return [-value for value in columns["spread"]]
    if strategy == "left_to_right":
        return [-8.0 - i for i in range(NUM_SLOTS)]
    if strategy == "gumbel":  # the noise of step 4 of 4 is 0
        confidence = torch.tensor(columns["confidence"], dtype=torch.float64)
        return confidence.clamp(min=torch.finfo(torch.float64).tiny).log().tolist()
    if strategy == "random":
        positions = torch.arange(8, 8 + NUM_SLOTS)
        return uniform(torch.tensor(5), positions, torch.tensor(3), ORDER).tolist()
    return columns["confidence"]


def naive_jetengine(ranked: list[float], bound: float) -> int:
    """Count as JetEngine's scheduler does: the running sums of ascending entropies below the bound."""
    sums = [-sum(ranked[:n]) for n in range(1, len(ranked) + 1)]
    return bisect_left(sums, bound)


def naive_allowance(
    strategy: str, ranked: list[float], limit: float, entropy_sum: str = "exclusive"
) -> int:
    """Count the highest-ranked positions that a strategy reveals, by the formula of its paper."""
    if strategy == "dynamic":
        return sum(confidence > limit for confidence in ranked)
    if strategy == "entropy_bounded" and entropy_sum == "inclusive":
        return naive_jetengine(ranked, limit)
    count = 0
    for n, score in enumerate(ranked, start=1):
        if strategy == "factor" and score <= 1 - limit / (n + 1):
            break
        if strategy == "entropy_bounded" and -sum(ranked[: n - 1]) > limit:
            break
        count += strategy in ("factor", "entropy_bounded")
    return count


def test_every_strategy_has_a_ranking() -> None:
    assert RANKINGS.keys() == set(STRATEGIES) and ALLOWANCES.keys() < RANKINGS.keys()


LIMITS = {"dynamic": "threshold", "factor": "factor", "entropy_bounded": "entropy_bound"}


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=60)
@given(
    columns=st.fixed_dictionaries(dict.fromkeys(("confidence", "margin", "spread"), ROW)),
    hidden=FLAGS,
    least=st.integers(1, 8),
    limit=st.sampled_from([0.125, 0.25, 0.5, 0.75, 1.0]),
    entropy_sum=st.sampled_from(ENTROPY_SUMS),
)
def test_selection_takes_the_sure_or_the_quota(
    strategy: str,
    columns: dict[str, list[float]],
    hidden: list[bool],
    least: int,
    limit: float,
    entropy_sum: str,
) -> None:
    """The foremost by the strategy's order, ties to the left; at least one, at most all."""
    changes = {LIMITS[strategy]: limit} if strategy in LIMITS else {}
    own = sampling({"strategy": strategy, "seed": 5, "entropy_sum": entropy_sum, **changes})
    block = block_of(hidden, taken=3, least=least)
    scores = rank_positions(proposal_of(**columns), block, own)
    naive = naive_scores(strategy, columns)
    assert scores[0].tolist() == naive

    positions = [i for i in range(NUM_SLOTS) if hidden[i]]
    order = sorted(positions, key=lambda i: (-naive[i], i))
    sure = naive_allowance(strategy, [naive[i] for i in order], limit, entropy_sum)
    masked = [naive[i] for i in order] + [-math.inf] * (NUM_SLOTS - len(order))
    ranked = torch.tensor([masked], dtype=torch.float64)
    assert allowance(ranked, own).tolist() == [sure]

    chosen = select(scores, block.hidden, block.quotas, own)[0]
    found = chosen.nonzero()[:, 0].tolist()
    assert sorted(found) == sorted(order[: max(least, sure)])
    assert set(found) <= set(positions) and bool(found) == bool(positions)


@pytest.mark.parametrize("steps", [1, 2, 5, 15, 300])
def test_the_noise_of_gumbel_shrinks_cumulatively(steps: int) -> None:
    """As published: the scale of a step is that of the step before times `1 - t/T`."""
    rule = {"strategy": "gumbel", "denoising_steps": steps, "seed": 5, "ranking_noise": 2.0}
    own, scale = sampling(rule), 2.0
    confidence = [0.5] * NUM_SLOTS
    for taken in range(steps):
        scale *= 1 - (taken + 1) / steps
        block = block_of([True] * NUM_SLOTS, taken=taken)
        scores = rank_positions(proposal_of(confidence=confidence), block, own)[0]
        uniforms = uniform(torch.tensor(5), block.positions[0], torch.tensor(taken), ORDER)
        expected = math.log(0.5) + scale * -(-uniforms.log()).log()
        assert scores.tolist() == pytest.approx(expected.tolist(), rel=1e-9)


def test_the_noise_of_gumbel_has_its_distribution() -> None:
    """Of two places, the surer by a factor of 3 is first in 3 of 4 draws where the scale is 1."""
    rule = {"strategy": "gumbel", "denoising_steps": 2, "ranking_noise": 2.0}
    grid = proposal_of(confidence=[0.6, 0.2, 0.0, 0.0, 0.0, 0.0])
    block = block_of([True] * NUM_SLOTS)
    first = 0
    for seed in range(2000):
        scores = rank_positions(grid, block, sampling({**rule, "seed": seed}))[0]
        first += bool(scores[0] > scores[1])
    assert abs(first / 2000 - 0.75) < 0.04


def test_the_factor_rule_of_the_paper() -> None:
    """Fast-dLLM's theorem: n tokens together need (n + 1) (1 - c) < f."""
    ranked = torch.tensor([[0.9, 0.8, 0.74, 0.7]], dtype=torch.float64)
    for factor, expected in ((0.19, 0), (0.21, 1), (0.61, 2), (1.0, 2), (1.1, 3), (2.0, 4)):
        assert allowance(ranked, sampling({"strategy": "factor", "factor": factor})) == expected


JETENGINE = {"strategy": "entropy_bounded", "entropy_sum": "inclusive"}
ENTROPIES = -torch.tensor([[0.05, 0.05, 0.2, 3.0]], dtype=torch.float64)


def test_the_entropy_bound_of_the_paper_counts_the_positions_before() -> None:
    for bound, expected in ((0.0, 1), (0.04, 1), (0.05, 2), (0.1, 3), (0.29, 3), (0.31, 4)):
        own = sampling({"strategy": "entropy_bounded", "entropy_bound": bound})
        assert allowance(ENTROPIES, own) == expected


def test_the_entropy_bound_of_jetengine_counts_every_position_and_is_not_reached() -> None:
    for bound, expected in ((0.0, 0), (0.05, 0), (0.06, 1), (0.1, 1), (0.29, 2), (0.31, 3), (4, 4)):
        own = sampling(JETENGINE | {"entropy_bound": bound})
        assert allowance(ENTROPIES, own) == expected


@settings(max_examples=150)
@given(ROW, FLAGS, FLAGS, st.sampled_from([0.0, 0.5, 0.6, 1.0]))
def test_doubt_falls_on_the_least_probable(
    held: list[float], hidden: list[bool], prompt: list[bool], threshold: float
) -> None:
    written = [not h and not p for h, p in zip(hidden, prompt, strict=True)]
    own = sampling({"remask_threshold": threshold})
    found = doubted(proposal_of(held=held), block_of(hidden, written), own)[0]
    below = [i for i in range(NUM_SLOTS) if written[i] and held[i] < threshold]
    expected = sorted(below, key=lambda i: (held[i], i))[: max(sum(hidden) - 1, 0)]
    assert found.nonzero()[:, 0].tolist() == sorted(expected)


def test_logits_are_needed_where_something_may_change() -> None:
    block = block_of([True, False, False], [False, True, False])
    assert scored_positions(block, sampling({})).tolist() == [[True, False, False]]
    for change in ({"edit_threshold": 0.5}, {"remask_threshold": 0.5}):
        assert scored_positions(block, sampling(change)).tolist() == [[True, True, False]]
    both = Block(*(torch.cat((column, column)) for column in block[:7]))
    mixed = scored_positions(both, sampling({}, {"edit_threshold": 0.5}))
    assert mixed.tolist() == [[True, False, False], [True, True, False]]


# Rows of six positions over four tokens: two positions either tie to the bit or are far apart.
LOGITS = 2 * torch.randn(8, 4, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
TABLES = st.lists(st.integers(0, 7), min_size=6, max_size=6).map(lambda rows: LOGITS[rows])
STATES = st.lists(st.sampled_from("hwp"), min_size=6, max_size=6)  # hidden, written, prompt


@settings(max_examples=150)
@given(TABLES, STATES, st.integers(1, 3), st.sampled_from([0.0, 0.4, 0.8]))
def test_a_step_with_edits_and_masks(
    logits: Tensor, states: list[str], least: int, edit_threshold: float
) -> None:
    """Every position does one thing: it is revealed, edited, masked again, or left as it is."""
    hidden, written = [s == "h" for s in states], [s == "w" for s in states]
    thresholds = {"edit_threshold": edit_threshold, "remask_threshold": 0.3}
    own = sampling({"strategy": "static", "temperature": 0, "block_size": 6, **thresholds})
    block = block_of(hidden, written, least=least)
    needed = scored_positions(block, own)[0]
    result = reveal(logits[needed], block, own, torch.ones(4, dtype=torch.bool))

    probs = logits.log_softmax(-1).exp()
    top, best = probs.amax(-1).tolist(), probs.argmax(-1).tolist()
    held = probs[:, 2].tolist()
    below = [i for i in range(6) if written[i] and held[i] < 0.3]
    remasked = sorted(below, key=lambda i: (held[i], i))[: max(sum(hidden) - 1, 0)]
    order = sorted((i for i in range(6) if hidden[i]), key=lambda i: (-top[i], i))
    revealed = order[: max(least, len(remasked) + 1)]
    stay = {i for i in range(6) if not written[i] or i in remasked or best[i] == 2}
    edited = [i for i in range(6) if i not in stay and top[i] > edit_threshold]
    assert result.remasked[0].nonzero()[:, 0].tolist() == sorted(remasked)
    assert result.chosen[0].nonzero()[:, 0].tolist() == sorted(revealed + edited)
    for position in revealed + edited:
        assert int(result.tokens[0, position]) == best[position]
        assert float(result.logprobs[0, position].exp()) == top[position]
    # Nearer to the end by at least one mask.
    assert not any(hidden) or len(revealed) > len(remasked)


def step_of(request: dict[str, Any], hidden: list[bool], least: int = 1, taken: int = 0) -> Tensor:
    """Return which positions one request would reveal of fixed logits, most confident in the middle."""
    table = torch.tensor([[0.0, 0, 0], [2, 0, 0], [5, 0, 0], [1, 0, 0]])
    block = block_of(hidden, taken=taken, least=least)
    own, everything = sampling({"temperature": 0, **request}), torch.ones(3, dtype=torch.bool)
    return reveal(table[torch.tensor(hidden)], block, own, everything).chosen[0].long()


# Probabilities of the likeliest: 0.33, 0.79, 0.99, 0.58; entropies: 1.1, 0.66, 0.08, 0.96.
EXAMPLES = [
    ({"strategy": "static"}, 2, [0, 1, 1, 0]),
    ({"strategy": "margin"}, 3, [0, 1, 1, 1]),
    ({"strategy": "entropy"}, 1, [0, 0, 1, 0]),
    ({"strategy": "left_to_right"}, 2, [1, 1, 0, 0]),
    ({"strategy": "dynamic", "threshold": 0.5}, 1, [0, 1, 1, 1]),
    ({"strategy": "dynamic", "threshold": 0.9}, 1, [0, 0, 1, 0]),
    ({"strategy": "dynamic", "threshold": 0.999}, 2, [0, 1, 1, 0]),
    ({"strategy": "factor", "factor": 0.65}, 1, [0, 1, 1, 0]),
    ({"strategy": "entropy_bounded", "entropy_bound": 0.0}, 1, [0, 0, 1, 0]),
    ({"strategy": "entropy_bounded", "entropy_bound": 0.5}, 1, [0, 1, 1, 0]),
    ({"strategy": "entropy_bounded", "entropy_bound": 0.8}, 1, [0, 1, 1, 1]),
    (JETENGINE | {"entropy_bound": 0.0}, 1, [0, 0, 1, 0]),
    (JETENGINE | {"entropy_bound": 0.5}, 1, [0, 0, 1, 0]),
    (JETENGINE | {"entropy_bound": 0.8}, 1, [0, 1, 1, 0]),
    (JETENGINE | {"entropy_bound": 5.0}, 1, [1, 1, 1, 1]),
]


@pytest.mark.parametrize(("request_", "least", "expected"), EXAMPLES)
def test_strategies_choose_by_their_name(
    request_: dict[str, Any], least: int, expected: list[int]
) -> None:
    assert step_of(request_, [True] * 4, least).tolist() == expected


def test_random_order_is_any_order() -> None:
    orders = {
        tuple(step_of({"strategy": "random"}, [True] * 4, 2, taken).tolist()) for taken in range(50)
    }
    assert len(orders) == 6 and all(sum(order) == 2 for order in orders)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_large_quota_reveals_what_is_hidden_and_overwrites_nothing(strategy: str) -> None:
    for hidden in ([False, True, False, True], [False] * 4, [True] * 4):
        assert step_of({"strategy": strategy}, hidden, 9).bool().tolist() == hidden


def companions() -> list[dict[str, Any]]:
    """Return a request of every strategy, with filters, edits and masks here and there."""
    return [
        {
            "strategy": strategy,
            "seed": i,
            "threshold": 0.2,
            "entropy_bound": 4.0,
            "entropy_sum": ENTROPY_SUMS[i // len(STRATEGIES)],
            "top_k": 3 * (i % 2),
            "temperature": (0.0, 1.0, 0.5)[i % 3],
            "confidence": ("raw", "filtered")[i // 2 % 2],
            "edit_threshold": (None, 0.1)[i // 4 % 2],
            "remask_threshold": (None, None, 0.05)[i % 3],
        }
        for i, strategy in enumerate([*STRATEGIES, *STRATEGIES])
    ]


def test_a_step_does_not_depend_on_its_company() -> None:
    """Other requests, positions and padding rows do not change what a request reveals."""
    generator = torch.Generator().manual_seed(1)
    requests = companions()
    count, shape = len(requests), (len(requests), 4)
    hidden = torch.rand(shape, generator=generator) < 0.6
    together = Block(
        tokens=torch.randint(16, shape, generator=generator),
        hidden=hidden,
        written=~hidden & (torch.rand(shape, generator=generator) < 0.8),
        positions=torch.arange(4 * count).view(shape),
        taken=torch.arange(count),
        step=1 + torch.arange(count) % 2,
        quotas=1 + torch.arange(count) % 3,
    )
    everything, own = torch.ones(16, dtype=torch.bool), sampling(*requests)
    counts = scored_positions(together, own).sum(1)
    logits = torch.randn(int(counts.sum()) + 5, 16, generator=generator)
    expected = reveal(logits, together, own, everything)
    assert expected.remasked.any() and (expected.chosen & together.written).any()
    for i, part in enumerate(logits[: counts.sum()].split(counts.tolist())):
        block = Block(*(column[i : i + 1] for column in together[:7]))
        alone = reveal(part, block, sampling(requests[i]), everything)
        for name in Reveal._fields:
            assert torch.equal(getattr(alone, name)[0], getattr(expected, name)[i]), name


def test_draws_are_keyed_by_seed_position_and_denoising_step() -> None:
    logits, everything = torch.zeros(4, 1000), torch.ones(1000, dtype=torch.bool)
    for seed, taken in ((5, 0), (5, 1), (6, 0)):
        block = block_of([True] * 4, taken=taken)
        result = reveal(logits, block, sampling({"seed": seed}), everything)
        uniforms = uniform(torch.tensor(seed), block.positions[0], torch.tensor(taken), TOKEN)
        assert torch.equal(result.tokens[0], draw(logits.softmax(-1), uniforms))
