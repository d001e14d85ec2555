"""Law 4: microbatches of 1, 2 and 8 give the loss, gradient and statistics of one batch."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.engine.writers import by_reference
from tests.invariants import seeing
from tests.invariants.conventions import TOYS, model_of
from tests.invariants.test_law_3_packed_layout_is_view_by_view import dense_logits
from tests.toy import SPEC
from tests.trainers.toy_methods import row
from tests.trainers.toy_runs import supervised_views
from unmask.configs.optimizer import OptimizerConfig
from unmask.configs.sft import SFTConfig
from unmask.diffusion.layout import pack_views
from unmask.diffusion.move_views import views_of_moves
from unmask.diffusion.noise import NoiseSchedule, elbo_weights
from unmask.diffusion.views import Views, views_of_responses, views_of_trajectory
from unmask.models.conventions import conventions_of
from unmask.models.transformer import Model
from unmask.objectives.reduce import reduction_weights
from unmask.sampling_params import SamplingParams
from unmask.trainers.learner import Learner, Objective, Update
from unmask.trainers.losses import (
    build_policy_objective,
    build_supervised_objective,
    reweighted,
)
from unmask.trainers.sft import weighted_views
from unmask.types import Reduction

NUM_TRAJECTORIES = 8

# What the largest trajectory takes: 12 clean tokens and two noisy copies of each of 4 blocks, and its
# prefix; under full attention two views of prompt and response.
LARGEST = {False: 4 + 12 + 2 * 4 * (SPEC.block_size or 0), True: 2 * (5 + 10)}
PLAIN = "block-causal"

LIKELIHOOD = build_supervised_objective(SFTConfig.model_validate({"model": {"path": "-"}}))
OBJECTIVES: dict[str, Objective] = {
    "likelihood": LIKELIHOOD,
    "policy, one update": build_policy_objective(row(minibatches=1)),
    "policy, several": build_policy_objective(row(loss={"kl": 0.5})),
}


def batch(block: int | None) -> list[Views]:
    """Return eight trajectories with two views, old log-probabilities and advantages of both signs."""
    return [
        replace(
            views,
            advantages=torch.full_like(views.advantages, number - 3.5),
            old_logprobs=torch.full_like(views.old_logprobs, -2.5),
            behavior_logprobs=torch.full_like(views.behavior_logprobs, -2.4),
        )
        for number, views in enumerate(supervised_views(NUM_TRAJECTORIES, block=block))
    ]


def update(
    objective: Objective, reduction: Reduction, token_budget: int, model_name: str = PLAIN
) -> tuple[Update, Tensor]:
    """Take one step and return its report and its gradient."""
    model = model_of(model_name, torch.float64)
    views = batch(model.spec.require_block())
    weights, denominator = reduction_weights([v.target.sum(-1) for v in views], reduction, 16)
    views = [replace(v, weight=v.weight * w[:, None]) for v, w in zip(views, weights, strict=True)]
    return step(model, views, objective, denominator, token_budget)


def step(
    model: Model, views: Sequence[Views], objective: Objective, denominator: float, budget: int
) -> tuple[Update, Tensor]:
    """Take one step on weighted views and return its report and its gradient."""
    before = [p.detach().clone() for p in model.parameters()]
    # With so large an epsilon AdamW's first step is minus the gradient, to about seven digits.
    config = OptimizerConfig(lr=1e7, eps=1e7, clip_norm=None, token_budget=budget)
    found = Learner(model, config).update(views, objective, denominator)
    change = [old - new.detach() for old, new in zip(before, model.parameters(), strict=True)]
    return found, torch.cat([c.flatten() for c in change])


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("size", [1, 2, NUM_TRAJECTORIES])
def test_the_budget_makes_the_microbatches_this_test_speaks_of(size: int, name: str) -> None:
    model = model_of(name, torch.float64)
    views, budget = batch(model.spec.require_block()), LARGEST[model.spec.is_full] * size
    packs = pack_views(views, conventions_of(model), budget)
    assert len(packs) == pytest.approx(NUM_TRAJECTORIES / size, abs=1 if size == 2 else 0)


@pytest.mark.parametrize("reduction", ["tokens", "sequence", "view", "constant"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_microbatches_of_1_2_and_8_are_one_batch(name: str, reduction: Reduction) -> None:
    whole, gradient = update(OBJECTIVES[name], reduction, LARGEST[False] * NUM_TRAJECTORIES)
    assert gradient.abs().max() > 1e-4
    for size in (1, 2):
        parts, of_parts = update(OBJECTIVES[name], reduction, LARGEST[False] * size)
        assert parts.loss == pytest.approx(whole.loss, rel=1e-12)
        torch.testing.assert_close(of_parts, gradient, rtol=1e-9, atol=1e-12)
        assert parts.values == pytest.approx(whole.values, rel=1e-10)


@pytest.mark.parametrize("reduction", ["sequence", "view"])
@pytest.mark.parametrize("model_name", TOYS)
def test_they_are_for_every_model(model_name: str, reduction: Reduction) -> None:
    largest = LARGEST[bool(TOYS[model_name].get("attention"))]
    objective = OBJECTIVES["policy, several"]
    whole, gradient = update(objective, reduction, largest * NUM_TRAJECTORIES, model_name)
    assert gradient.abs().max() > 1e-4
    for size in (1, 2):
        parts, of_parts = update(objective, reduction, largest * size, model_name)
        assert parts.loss == pytest.approx(whole.loss, rel=1e-12)
        torch.testing.assert_close(of_parts, gradient, rtol=1e-9, atol=1e-12)
        assert parts.values == pytest.approx(whole.values, rel=1e-10)


@pytest.mark.parametrize(
    ("model_name", "is_per_move"), [("block-causal", True), ("full, shifted", False)]
)
def test_they_are_for_moves(model_name: str, is_per_move: bool) -> None:
    """Draws that were lost are scored with those that were written."""
    loss = {"likelihood": "move", "per_move": is_per_move, "kl": 0.5, "reduction": "sequence"}
    config = row(loss=loss)
    found: list[tuple[Update, Tensor]] = []
    for budget in (10_000, 150, 40):
        model = model_of(model_name, torch.float64)
        batch = []
        for seed in range(8):
            params = SamplingParams(strategy="static", seed=seed, max_tokens=12, block_size=4)
            written = by_reference(model, ([3, 4, 5], params))
            views = views_of_moves(written, seed - 3.5, model.spec.is_full, model.spec.is_shifted)
            assert views.target.sum() > len(written.canvas_ids)
            batch.append(replace(views, old_logprobs=torch.full(views.target.shape, -1.5)))
        weights, denominator = reduction_weights([v.counts for v in batch], "sequence", 16)
        batch = reweighted(batch, weights)
        assert len(pack_views(batch, conventions_of(model), budget)) > {150: 1, 40: 7}.get(
            budget, 0
        )
        found.append(step(model, batch, build_policy_objective(config), denominator, budget))
    (whole, gradient), *others = found
    assert gradient.abs().max() > 1e-4
    for parts, of_parts in others:
        assert parts.loss == pytest.approx(whole.loss, rel=1e-12)
        torch.testing.assert_close(of_parts, gradient, rtol=1e-9, atol=1e-12)
        own = {k: v for k, v in whole.values.items() if k != "packed_tokens"}
        assert {k: parts.values[k] for k in own} == pytest.approx(own, rel=1e-10)


@pytest.mark.parametrize("model_name", seeing.KINDS)
def test_they_are_for_images(model_name: str) -> None:
    """A picture is encoded in each pack that holds it; the gradients of its encodings add up."""
    found: list[tuple[Update, Tensor]] = []
    for budget in (10_000, 200, 50):
        model = seeing.seeing_model(model_name)
        views = [
            views_of_trajectory(t, 3.5 - n, 2, is_full=model.spec.is_full)
            for n, t in enumerate(seeing.written(model, seeing.prompts()))
        ]
        packs = pack_views(views, conventions_of(model), budget)
        assert len(packs) > {10_000: 0, 200: 1, 50: 7}[budget]
        found.append(step(model, views, OBJECTIVES["policy, several"], 20.0, budget))
    (whole, gradient), *others = found
    for parts, of_parts in others:
        assert parts.loss == pytest.approx(whole.loss, rel=1e-12)
        torch.testing.assert_close(of_parts, gradient, rtol=1e-9, atol=1e-12)
        own = {k: v for k, v in whole.values.items() if k != "packed_tokens"}
        assert {k: parts.values[k] for k in own} == pytest.approx(own, rel=1e-10)


SFT_RESPONSES = [[2 + (7 * n + 3 * i) % 18 for i in range(1 + n % 5 * 2)] for n in range(8)]
LONGEST = 9


def supervised_loss(
    model: Model, batch: Sequence[Views], reduction: Reduction, is_elbo: bool
) -> Tensor:
    """Return the loss of SFT from one dense forward per view, averaged by plain loops.

    `view` is the published average: over the rows of a batch, each over its hidden tokens.
    """
    # demonstration -> view -> weighted losses of its targets, and the tokens it is averaged over
    found: list[list[tuple[Tensor, int]]] = []
    for views in batch:
        assert views.noise_level is not None
        weight = elbo_weights(views.noise_level) if is_elbo else views.weight
        found.append([])
        for v, target in enumerate(views.target):
            logits = dense_logits(model, views, v).masked_fill(~model.head.drawable, -torch.inf)
            positions = target.nonzero()[:, 0].tolist()
            losses = [
                -logits[s].log_softmax(-1)[views.canvas_ids[s]] * weight[v, s] for s in positions
            ]
            count = len(SFT_RESPONSES[len(found) - 1]) if is_elbo else len(positions)
            if count:
                found[-1].append((sum(losses, torch.zeros((), dtype=torch.float64)), count))
    of_views = [view for views in found for view in views]
    match reduction:
        case "tokens":
            return sum(s for s, _ in of_views) / sum(n for _, n in of_views)
        case "view":
            return sum(s / n for s, n in of_views) / len(of_views)
        case "sequence":
            means = [sum(s for s, _ in f) / sum(n for _, n in f) for f in found if f]
            return sum(means) / len(means)
        case "constant":
            return sum(s for s, _ in of_views) / (len(of_views) * LONGEST)


@pytest.mark.parametrize(
    ("reduction", "weight"),
    [
        ("tokens", "one"),
        ("tokens", "elbo"),
        ("sequence", "elbo"),
        ("view", "one"),
        ("constant", "elbo"),
    ],
)
@pytest.mark.parametrize("model_name", ["block-causal", "full", "full, shifted"])
def test_sft_is_its_plain_loop_in_1_2_and_10_microbatches(
    model_name: str, reduction: Reduction, weight: str
) -> None:
    """Demonstrations of several lengths; some of their views hide nothing."""
    model, is_elbo = model_of(model_name, torch.float64), weight == "elbo"
    block = model.spec.require_block()
    schedule = NoiseSchedule(0.1, 0.6)
    pairs = [((2 + n, 3, 4), response) for n, response in enumerate(SFT_RESPONSES)]
    batch = views_of_responses(pairs, block, (schedule, 3), range(8), 0 if block else 6)
    empty = [int((~v.target.any(-1)).sum()) for v in batch]
    assert any(empty) and len({int(v.target.sum()) for v in batch}) > 2
    fills = {"low": 0.01, "high": 1.0} if is_elbo else {}  # no effect here: the batch is drawn
    sections = {"model": {"path": "-"}, "views": fills}
    config = SFTConfig.model_validate(
        sections | {"loss": {"reduction": reduction, "weight": weight}}
    )
    loss = supervised_loss(model, batch, reduction, is_elbo)
    loss.backward()
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    expected = torch.cat([g.flatten() for g in gradients])
    weighted, denominator = weighted_views(batch, config, LONGEST)
    for budget, count in {512: 1, 120: 2, 22: 10}.items():
        fresh = model_of(model_name, torch.float64)
        assert len(pack_views(weighted, conventions_of(fresh), budget)) == count
        report, gradient = step(fresh, weighted, LIKELIHOOD, denominator, budget)
        assert report.loss == pytest.approx(float(loss.detach()), rel=1e-12)
        torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("model_name", "budget"),
    [("block-causal", 28), ("block-causal, shifted", 28), ("full", 16), ("full, shifted", 16)],
)
def test_a_trajectory_cut_at_block_borders_or_between_views_is_still_one_trajectory(
    model_name: str, budget: int
) -> None:
    whole, gradient = update(LIKELIHOOD, "sequence", 8192, model_name)
    parts, of_parts = update(LIKELIHOOD, "sequence", budget, model_name)
    model = model_of(model_name, torch.float64)
    packs = pack_views(batch(model.spec.require_block()), conventions_of(model), budget)
    assert len(packs) > NUM_TRAJECTORIES
    assert parts.loss == pytest.approx(whole.loss, rel=1e-12)
    torch.testing.assert_close(of_parts, gradient, rtol=1e-9, atol=1e-12)
