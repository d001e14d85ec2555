"""The likelihood of a move is that of all draws with its outcome; its gradient is that of expected reward.

The small samplers are enumerated whole (`enumeration.py`). `benchmarks/exact_gradient.py` does the same at
larger sizes, and measures by how much the other surrogates miss.
"""

from dataclasses import replace
from math import comb
from typing import Any, NamedTuple

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from tests.diffusion.enumeration import (
    Expectation,
    Moves,
    Toy,
    along,
    enumerate_moves,
    expectation,
    expected_surrogate,
    moved,
    paths_of,
    revealed,
)
from tests.diffusion.enumeration_rules import EDITS, EXACT, RULES, toy_of
from tests.engine.writers import by_engine
from tests.toy import toy_model
from unmask.diffusion.moves import EDITED, REVEALED, STAYED
from unmask.models.transformer import block_causal
from unmask.objectives.advantages import advantages_of_rewards
from unmask.sampling_params import SamplingParams
from unmask.types import Baseline

CASES = [(name, 2, 4) for name in RULES]
CASES += [(name, 3, 4) for name in ("static", "dynamic, low", "factor, wide, cool")]
CASES += [(name, 3, 3) for name in ("static, ranked by the proposal", "entropy_bounded")]
CASES += [(name, 3, 2) for name in EDITS]
NAMES = [f"{name} ({v}, {c})" for name, v, c in CASES]
TINY = 1e-10


class Case(NamedTuple):
    """An enumerated sampler and the gradient of its expected reward."""

    toy: Toy
    theta: Tensor
    levels: list[Moves]
    found: Expectation
    exact: Tensor

    def gradient(self, value: Tensor) -> Tensor:
        """Return the gradient of a number by the policy."""
        (found,) = torch.autograd.grad(value, self.theta, retain_graph=True)
        return found

    def error(self, logprobs: list[Tensor]) -> float:
        """Return how far the expected gradient of a surrogate is off, in lengths of the exact one."""
        surrogate = self.gradient(expected_surrogate(self.levels, self.found, logprobs))
        return float((surrogate - self.exact).norm() / self.exact.norm())


def case_of(name: str, vocabulary: int, canvas: int, seed: int = 0, is_merged: bool = True) -> Case:
    toy = toy_of(name, vocabulary, canvas)
    theta = toy.policy(seed).requires_grad_()
    levels = enumerate_moves(toy, theta, is_merged)
    found = expectation(toy, levels, toy.rewards(seed))
    (exact,) = torch.autograd.grad(found.reward, theta, retain_graph=True)
    return Case(toy, theta, levels, found, exact)


@pytest.mark.parametrize(("name", "vocabulary", "canvas"), CASES, ids=NAMES)
def test_a_move_is_as_probable_as_its_draws_and_its_gradient_is_exact(
    name: str, vocabulary: int, canvas: int
) -> None:
    case = case_of(name, vocabulary, canvas, is_merged=False)  # path by path
    for moves in case.levels:
        closed = moves.factors.sum(-1).exp()
        assert torch.allclose(closed, moves.probability, rtol=1e-12, atol=1e-15)
        totals = torch.zeros(int(moves.source.max()) + 1, dtype=torch.float64)
        totals = totals.index_add(0, moves.source, closed)
        assert torch.allclose(totals, torch.ones_like(totals), rtol=1e-12)
    assert case.error(moved(case.levels)) < TINY
    missed = case.error(revealed(case.levels))
    assert missed < TINY if name in EXACT else missed > 0.01


@pytest.mark.parametrize("name", ["static", "dynamic, blocks, early stop", "entropy"])
def test_expected_reward_changes_as_its_gradient_predicts(name: str) -> None:
    """Finite differences of all draws; none of the steps is over a jump."""
    case = case_of(name, 2, 4)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        direction = torch.randn(case.theta.shape, dtype=torch.float64, generator=generator)
        ends = []
        for step in (1e-5, -1e-5):
            levels = enumerate_moves(case.toy, case.theta.detach() + step * direction)
            ends.append(expectation(case.toy, levels, case.toy.rewards(0)).reward)
        slope = float(ends[0] - ends[1]) / 2e-5
        assert slope == pytest.approx(float((case.exact * direction).sum()), rel=1e-6, abs=1e-9)


def test_the_factors_that_are_easy_to_miss_are_needed() -> None:
    """Written positions that stay, above all in passes that write nothing."""
    case = case_of("left_to_right, edits", 3, 2)
    is_empty = [~((m.kinds == REVEALED) | (m.kinds == EDITED)).any(-1) for m in case.levels]
    assert any(rows.any() for rows in is_empty)
    with_writes = [m.factors.sum(-1) * ~rows for m, rows in zip(case.levels, is_empty, strict=True)]
    written = [(m.factors * (m.kinds != STAYED)).sum(-1) for m in case.levels]
    assert case.error(with_writes) > 0.01
    assert case.error(written) > case.error(with_writes)


def test_every_path_once() -> None:
    case = case_of("dynamic, blocks, early stop", 3, 4, is_merged=False)
    paths = paths_of(case.toy, case.levels)
    rows = torch.cat((paths.canvas, paths.step_map), -1)
    assert len(rows.unique(dim=0)) == len(rows)
    assert float(paths.probability.sum()) == pytest.approx(1, abs=1e-12)
    rewards = case.toy.reward(case.toy.rewards(0), paths.canvas)
    assert float(paths.probability @ rewards) == pytest.approx(float(case.found.reward.detach()))
    surrogate = paths.probability * rewards * along(case.levels, paths, moved(case.levels))
    gradient = case.gradient(surrogate.sum())
    assert (gradient - case.exact).norm() < TINY * case.exact.norm()


def test_paths_that_meet_in_a_canvas_can_be_merged() -> None:
    apart, merged = (case_of("static", 3, 3, is_merged=merges) for merges in (False, True))
    assert torch.allclose(merged.exact, apart.exact, rtol=1e-12, atol=1e-15)
    sizes = [sum(len(moves.source) for moves in case.levels) for case in (merged, apart)]
    assert sizes[0] < sizes[1]


def test_positions_past_the_stop_are_actions() -> None:
    case = case_of("entropy, early stop", 3, 3, is_merged=False)
    paths = paths_of(case.toy, case.levels)
    is_response = torch.arange(case.toy.canvas) < case.toy.lengths(paths.canvas)[:, None]
    factors = along(case.levels, paths, [moves.factors for moves in case.levels])  # (P, C)
    rewards = case.toy.reward(case.toy.rewards(0), paths.canvas)
    scored = (paths.probability * rewards * factors.sum(-1)).sum()
    ignored = (paths.probability * rewards * (factors * is_response).sum(-1)).sum()
    assert (case.gradient(scored) - case.exact).norm() < TINY * case.exact.norm()
    assert (case.gradient(ignored) - case.exact).norm() > 0.001 * case.exact.norm()


@pytest.mark.parametrize("baseline", ["group", "leave_one_out", "group_std"])
@pytest.mark.parametrize("size", [2, 4])
def test_group_baselines_scale_the_gradient(baseline: Baseline, size: int) -> None:
    """By `1 - 1/G`, by one, and by a number that depends on how often a response succeeds."""
    case = case_of("static", 2, 3, is_merged=False)
    paths = paths_of(case.toy, case.levels)
    succeeds = (case.toy.reward(case.toy.rewards(0), paths.canvas) > 0.5).double()
    logprobs = along(case.levels, paths, moved(case.levels))
    exact = case.gradient((paths.probability * succeeds * logprobs).sum())
    rate = float(paths.probability @ succeeds)
    # Expected advantage of a response by its own reward, over the rewards of the others.
    mean = [
        sum(
            comb(size - 1, k) * rate**k * (1 - rate) ** (size - 1 - k)
            * advantages_of_rewards([[own] + [1.0] * k + [0.0] * (size - 1 - k)], baseline)[0][0]
            for k in range(size)
        )
        for own in (0.0, 1.0)
    ]  # fmt: skip
    advantages = mean[0] + (mean[1] - mean[0]) * succeeds
    gradient = case.gradient((paths.probability * advantages * logprobs).sum())
    factor = {"group": 1 - 1 / size, "leave_one_out": 1.0}.get(baseline, mean[1] - mean[0])
    assert (gradient - factor * exact).norm() < TINY * exact.norm()


def test_values_are_a_baseline_by_position_or_over_open_ones_and_not_over_revealed_ones() -> None:
    case = case_of("static", 3, 3)
    generator = torch.Generator().manual_seed(5)
    own, opened, drawn = list[Tensor](), list[Tensor](), list[Tensor]()
    for moves in case.levels:
        count = int(moves.source.max()) + 1
        values = torch.rand(count, 3, dtype=torch.float64, generator=generator)[moves.source]
        is_open, is_revealed = moves.kinds > 0, moves.kinds == REVEALED
        of_open = (values * is_open).sum(-1) / is_open.sum(-1)
        of_revealed = (values * is_revealed).sum(-1) / is_revealed.sum(-1)
        own.append((values * moves.factors).sum(-1))
        opened.append(of_open * moves.factors.sum(-1))
        drawn.append(of_revealed * moves.factors.sum(-1))
    unit = case.found._replace(worth=[torch.ones_like(w) for w in case.found.worth])
    sizes = [
        float(case.gradient(expected_surrogate(case.levels, unit, terms)).norm())
        for terms in (own, opened, drawn)
    ]
    assert max(sizes[:2]) < TINY < 0.01 < sizes[2]


def chi_square(counts: Tensor, probability: Tensor) -> float:
    """Return the p-value of counts, those expected less than five times taken together."""
    expected = probability * counts.sum()
    is_rare = expected < 5
    pooled = torch.stack((counts[is_rare].sum(), expected[is_rare].sum()))[:, None]
    counts, expected = (
        torch.cat((own[~is_rare], rest))
        for own, rest in zip((counts, expected), pooled, strict=True)
    )
    kept = expected > 0
    statistic = float(((counts - expected)[kept] ** 2 / expected[kept]).sum())
    return float(chi2.sf(statistic, int(kept.sum()) - 1))


def engine_counts(rule: dict[str, Any], responses: int) -> tuple[Tensor, Tensor]:
    """Return how often an engine took each path and how probable it is.

    The model is a real one of three tokens, behind a prompt of two blocks.
    """
    model = toy_model(3, vocab_size=4, num_drawable=3, mask_id=3, eos_ids=())
    params = SamplingParams(**{"block_size": 4, "max_tokens": 4, "stop_token_ids": (), **rule})
    toy = Toy(3, 4, params)
    canvases = torch.cartesian_prod(*[torch.arange(4)] * 4)
    prompt = [0, 2, 1, 1, 2, 0, 1, 0]
    ids = torch.cat((torch.tensor(prompt).expand(len(canvases), -1), canvases), 1)
    sees = block_causal(ids.shape[1], params.block_size or 4, ids.device)[None]
    logits = model.logits(ids, allowed=sees)[:, len(prompt) :, :3].detach().double()
    theta = logits[toy.state(canvases).argsort()]  # by number of the state
    paths = paths_of(toy, enumerate_moves(toy, theta, is_merged=False))
    rows = torch.cat((paths.canvas, paths.step_map), -1).tolist()
    number = {tuple(row): index for index, row in enumerate(rows)}
    asks = [(prompt, replace(params, seed=seed)) for seed in range(responses)]
    taken = [number[*t.canvas_ids, *t.step_map] for t in by_engine(model, asks)]
    counts = torch.bincount(torch.tensor(taken), minlength=len(rows))
    return counts.double(), paths.probability


@pytest.mark.parametrize(
    "rule",
    [
        {"strategy": "static", "temperature": 0.7},
        {"strategy": "dynamic", "threshold": 0.6},
        {"strategy": "factor", "factor": 0.9, "block_size": 2},
    ],
    ids=lambda rule: rule["strategy"],
)
def test_an_engine_takes_each_path_as_often_as_it_is_probable(rule: dict[str, Any]) -> None:
    assert chi_square(*engine_counts(rule, 4000)) > 1e-4
