"""Law 3 of moves: a pack scores what a plain loop over the sampler's passes does, in value and in gradient.

The loop has neither views nor closed forms: it repeats each denoising step of the reference sampler with every
token that a position could have drawn in place of its own, and adds up those that change nothing.
"""

from dataclasses import replace
from operator import attrgetter
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from tests.engine.writers import by_reference
from tests.invariants.conventions import model_of
from tests.invariants.test_law_3_packed_layout_is_view_by_view import (
    dense_logits,
    gradients,
    largest_gap,
)
from unmask.diffusion import reference_sampler
from unmask.diffusion.layout import pack_views
from unmask.diffusion.move_views import views_of_moves
from unmask.diffusion.moves import Factors, move_logprobs
from unmask.diffusion.sampling_tensors import SamplingTensors
from unmask.diffusion.token_sampling import Proposal, propose
from unmask.diffusion.unmask import Block, Reveal, decide, reveal
from unmask.diffusion.views import Views
from unmask.engine.scoring import score_pack, score_views
from unmask.models.conventions import conventions_of
from unmask.models.transformer import Model
from unmask.sampling_params import SamplingParams
from unmask.types import Trajectory

# The toy's distributions are broad: few confidences are above a half.
RULES: dict[str, dict[str, Any]] = {
    "static": {"strategy": "static", "temperature": 0.7},
    "static, two steps, by the proposal": {
        "strategy": "static",
        "temperature": 0.7,
        "denoising_steps": 2,
        "confidence": "filtered",
    },
    "static, sub-blocks": {"strategy": "static", "sub_block_size": 2},
    "dynamic": {"strategy": "dynamic", "threshold": 0.2},
    "factor": {"strategy": "factor", "factor": 2.0},
    "entropy": {"strategy": "entropy"},
    "random": {"strategy": "random"},
    "static, edits": {"strategy": "static", "edit_threshold": 0.2, "max_edit_steps": 2},
    "dynamic, edits and masks": {
        "strategy": "dynamic",
        "threshold": 0.3,
        "temperature": 1.5,
        "edit_threshold": 0.25,
        "remask_threshold": 0.1,
        "max_edit_steps": 2,
    },
    "left_to_right, edits": {"strategy": "left_to_right", "edit_threshold": 0.15},
}
MODELS = ["block-causal", "block-causal, shifted", "full", "full, shifted"]
PROMPTS = ([3, 5, 7], [2, 4, 6, 8])


class Step(NamedTuple):
    """One call of `reveal` by the reference sampler."""

    logits: Tensor
    block: Block
    rows: tuple[Tensor, Tensor]
    sampling: SamplingTensors
    drawable: Tensor
    found: Reveal


def written(
    model: Model, params: SamplingParams, prompt: list[int], monkeypatch: pytest.MonkeyPatch
) -> tuple[Trajectory, list[Step]]:
    steps: list[Step] = []

    def recorded(logits: Tensor, block: Block, *rest: Any) -> Reveal:
        found = reveal(logits, block, *rest)
        kept = Block(*(x.clone() if isinstance(x, Tensor) else x for x in block))
        steps.append(Step(logits.clone(), kept, *rest[:3], found))
        return found

    monkeypatch.setattr(reference_sampler, "reveal", recorded)
    return by_reference(model, (prompt, params)), steps


def plain_factors(step: Step, params: SamplingParams) -> dict[int, float]:
    """Return the log-probability of what happened at each column of a step that looked at its draw."""
    (_, columns), drawable = step.rows, step.drawable
    ids = drawable.nonzero()[:, 0]
    tempered = (step.logits / params.temperature).masked_fill(~drawable, -torch.inf)
    q = tempered.softmax(-1)[:, ids]  # (rows, ids)
    middle = q.cumsum(-1) - q / 2
    held = step.block.tokens[0, columns]
    row = torch.arange(len(columns)).repeat_interleave(len(ids))
    own = step.sampling.take(torch.zeros_like(row))
    table = propose(step.logits[row], drawable, middle.flatten(), held[row], own)
    table = Proposal(*(values.view(len(columns), -1) for values in table))
    assert torch.equal(table.tokens, ids.expand_as(table.tokens))
    drawn = step.found.tokens[0, columns]  # lost ones too
    place = torch.searchsorted(ids, drawn)
    size = step.block.hidden.shape[1]
    factors: dict[int, float] = {}
    for r, column in enumerate(columns.tolist()):
        if step.found.remasked[0, column]:
            continue
        if step.found.chosen[0, column]:
            factors[column] = float(q[r, place[r]].log())
            continue
        # Every token at this position, the others' as they were drawn: (ids, K).
        grid = []
        for values in table:
            wide = values.new_zeros(len(ids), size)
            wide[:, columns] = values[torch.arange(len(columns)), place]
            wide[:, column] = values[r]
            grid.append(wide)
        many = [x.expand(len(ids), *x.shape[1:]) for x in step.block[:7]]
        sampling = step.sampling.take(torch.zeros_like(ids))
        found = decide(Proposal(*grid), Block(*many), sampling)
        is_same = (found.chosen == step.found.chosen).all(-1)
        assert is_same[place[r]]
        mass = q[r][is_same].sum()
        if not is_same.all():
            factors[column] = float(mass.log())
    return factors


def scored(model: Model, views: Views) -> Tensor:
    """Return the factors `(N, C)` of a trajectory by packs of few tokens."""
    packs = pack_views([views], conventions_of(model), 60)
    ((table,),) = score_views(model, [views], packs, [attrgetter("logprobs")])
    return table


def place_of(steps: list[Step], number: int, is_full: bool) -> int:
    """Return the view that a step is: the n-th of its block, or under full attention of all."""
    start = int(steps[number].block.positions[0, 0])
    own = [int(step.block.positions[0, 0]) == start for step in steps[:number]]
    return number if is_full else sum(own)


def asked(rule: dict[str, Any], seed: int) -> SamplingParams:
    given = {"max_tokens": 10, "stop_token_ids": (0,), "block_size": 4, **rule}
    return SamplingParams(**given, seed=seed)


@pytest.mark.parametrize("model_name", MODELS)
@pytest.mark.parametrize("rule", RULES)
def test_a_pack_scores_every_draw_that_decided_a_step(
    rule: str, model_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(model_name, torch.float64)
    spec, num_lost, num_passes = model.spec, 0, 0
    for seed, prompt in enumerate(PROMPTS * 2):
        params = asked(RULES[rule], seed)
        trajectory, steps = written(model, params, prompt, monkeypatch)
        views = views_of_moves(trajectory, 1.0, spec.is_full, spec.is_shifted)
        table, expected = scored(model, views), torch.zeros(views.target.shape).double()
        has_factor = torch.zeros_like(views.target)
        for number, step in enumerate(steps):
            view = place_of(steps, number, spec.is_full)
            for column, value in plain_factors(step, params).items():
                position = int(step.block.positions[0, column]) - len(prompt)
                expected[view, position], has_factor[view, position] = value, True
                num_lost += not bool(step.found.chosen[0, column])
        num_passes += len(steps)
        # Positions that looked at their draw in vain have the factor 1, with or without a row.
        assert not (has_factor & ~views.target).any()
        torch.testing.assert_close(table, expected, rtol=1e-9, atol=1e-9)
    loses = RULES[rule]["strategy"] not in ("entropy", "random")
    assert num_lost > 0 if loses else num_lost == 0


def dense_factors(model: Model, views: Views) -> Tensor:
    """Return the factors `(N, C)` from one dense forward pass of each view."""
    assert views.moves is not None
    table = torch.zeros(views.target.shape, dtype=torch.float64)
    offset = 0 if model.spec.is_full else len(views.prompt_ids)
    block = (offset + torch.arange(len(views.canvas_ids))) // views.block
    rules = torch.tensor(views.moves.rules.numbers, dtype=torch.float64)
    for v, target in enumerate(views.target):
        logits = dense_logits(model, views, v).masked_fill(~model.head.drawable, -torch.inf)
        for number in block[target].unique():
            at = (target & (block == number)).nonzero()[:, 0]
            factors = Factors.of(
                views.moves.kinds[v, at], torch.zeros_like(at), at, rules.expand(len(at), -1)
            )
            temperatures = torch.full((len(at),), views.temperature, dtype=torch.float64)
            found = move_logprobs(logits[at], views.written()[v, at], temperatures, factors)
            table = table.index_put((torch.tensor(v), at), found)
    return table


@pytest.mark.parametrize("model_name", MODELS)
def test_packs_of_any_size_have_the_gradient_of_dense_views(model_name: str) -> None:
    model = model_of(model_name, torch.float64)
    spec = model.spec
    batch = []
    for seed, (name, prompt) in enumerate(zip(RULES, PROMPTS * 5, strict=True)):
        trajectory = by_reference(model, (prompt, asked(RULES[name], seed)))
        past = bool(seed % 2)
        views = views_of_moves(trajectory, seed - 3.5, spec.is_full, spec.is_shifted, past)
        batch.append(replace(views, weight=views.weight * (1 + seed % 3)))
    tables = [dense_factors(model, views) for views in batch]
    loss = sum((t * v.weight * v.advantages).sum() for t, v in zip(tables, batch, strict=True))
    assert isinstance(loss, Tensor)
    expected = gradients(model, loss)
    for budget in (60, 4096):
        total = torch.zeros((), dtype=torch.float64)
        for pack in pack_views(batch, conventions_of(model), budget):
            scores = score_pack(model, pack)
            total = total + (pack.weights * pack.advantages * scores.logprobs).sum()
        assert float(total.detach()) == pytest.approx(float(loss.detach()), rel=1e-10)
        assert largest_gap(gradients(model, total), expected) < 1e-10


@pytest.mark.parametrize("model_name", MODELS)
def test_a_position_past_the_stop_decides_what_was_lost_though_it_is_not_trained(
    model_name: str,
) -> None:
    model = model_of(model_name, torch.float64)
    spec, num_ignored = model.spec, 0
    params = replace(asked(RULES["static"], 0), stop_token_ids=tuple(range(10)))
    for seed in range(10):
        trajectory = by_reference(model, ([3, 5, 7], replace(params, seed=seed)))
        whole, response = (
            views_of_moves(trajectory, 1.0, spec.is_full, spec.is_shifted, past)
            for past in (True, False)
        )
        is_response = torch.arange(len(trajectory.canvas_ids)) < trajectory.num_response
        num_ignored += int((whole.target & ~is_response).sum())
        assert torch.equal(response.target & is_response, whole.target & is_response)
        assert not response.weight[:, ~is_response].any()
        found = scored(model, whole)[:, is_response], scored(model, response)[:, is_response]
        torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)
    assert num_ignored > 0
