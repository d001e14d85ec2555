"""Law 3 for the whole objective: packed loss and gradient are those of plain loops over views and targets."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from statistics import fmean
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.diffusion.trajectories import random_canvas, random_trajectory
from tests.invariants.conventions import TOYS, model_of
from tests.invariants.test_law_3_packed_layout_is_view_by_view import dense_logits
from tests.trainers.toy_critics import dense_values
from tests.trainers.toy_methods import row
from unmask.configs.methods import partner
from unmask.configs.methods.advantage.shared_value import SharedValueAdvantage
from unmask.configs.methods.loss.clipped import ClippedLoss
from unmask.configs.methods.loss.weighted import WeightedLoss
from unmask.configs.rl import RLConfig
from unmask.diffusion.layout import Pack, pack_views
from unmask.diffusion.target_table import TargetTable
from unmask.diffusion.views import Views
from unmask.engine.scoring import score_pack
from unmask.models.conventions import conventions_of
from unmask.models.transformer import Model
from unmask.models.value_model import ActorCritic, ValueModel
from unmask.objectives.reduce import reduction_weights
from unmask.trainers.losses import build_joint_objective, build_policy_objective
from unmask.trainers.reference import Scorer
from unmask.trainers.rollout_views import enlarge_blocks

# By trajectory, view and target.
Terms = list[list[list[Tensor]]]
LENGTH = 16
ON = {
    "kl": 0.3,
    "kl_to": "reference",
    "dual_clip": 1.2,
    "max_importance": 1.1,
    "clip": (0.2, 0.3),
}
METHODS: dict[str, RLConfig] = {
    "trace": row(loss=ON),
    "merged": row({"shrink": 2, "post_num": 1}, ON | {"reduction": "view"}),
    "random": row({"kind": "random", "count": 2}, ON | {"reduction": "constant"}),
    "coupled": row({"kind": "coupled", "count": 2}, ON | {"reduction": "sequence"}),
    "coupled, per token": row({"kind": "coupled", "level": "token"}, ON | {"kl_estimator": "k1"}),
    "larger blocks": row({"train_block": 8}, ON | {"reduction": "constant"}),
    "clamped": row(loss=ON | {"max_log_ratio": 0.2}),
    "clamped, k1": row(loss=ON | {"max_log_ratio": 0.2, "kl_estimator": "k1"}),
    "one step": row({"kind": "one_step", "prompt_noise": 0.5, "count": 2}, ON),
    "some steps": row({"kind": "steps", "count": 2}, ON | {"reduction": "sequence"}),
    "counted": row({"kind": "counted", "count": 2, "level": "block"}, ON),
    "blockwise": row({"kind": "blockwise", "count": 2}, ON),
    "weighted": row(loss={"kind": "weighted"}),
}
TRACED = ("trace", "merged", "larger blocks", "clamped")


def batch_of(
    model: Model, config: RLConfig, lengths: Sequence[int] = (1, 3, 4, 6, 9)
) -> list[Views]:
    """Draw trajectories of every phase, with advantages of both signs, in the views of a method."""
    rng = random.Random(3)
    is_full = model.spec.is_full
    drawn = [random_canvas(rng, n) if is_full else random_trajectory(rng, 4, n) for n in lengths]
    if isinstance(config.views.train_block, int):
        drawn = [enlarge_blocks(trajectory, config.views.train_block) for trajectory in drawn]
    of_trajectory = partner(config.views, "unmask.diffusion.methods").of_trajectory
    return [of_trajectory(t, 1.5 - n, config.views, is_full) for n, t in enumerate(drawn)]


def tables_near(scored: list[Tensor], seed: int) -> list[Tensor]:
    """Draw a log-probability for every view and position, near those of the model."""
    generator = torch.Generator().manual_seed(seed)
    return [t + torch.randn(t.shape, generator=generator).double() / 3 for t in scored]


def naive_term(
    logprob: Tensor,
    old: float,
    behavior: float,
    anchor: float,
    advantage: float,
    config: ClippedLoss | WeightedLoss,
) -> Tensor:
    """Return one target's loss in scalars."""
    if isinstance(config, WeightedLoss):
        return -advantage * logprob
    most = config.max_log_ratio or math.inf
    ratio = (logprob - old).clamp(-most, most).exp()
    low, high = 1 - config.clip[0], 1 + config.clip[1]
    gain = torch.minimum(ratio * advantage, ratio.clamp(low, high) * advantage)
    if advantage < 0 and config.dual_clip:
        gain = torch.maximum(gain, logprob.new_tensor(config.dual_clip * advantage))
    gain = min(math.exp(old - behavior), config.max_importance or math.inf) * gain
    delta = logprob - anchor
    kl = delta if config.kl_estimator == "k1" else (-delta).clamp(-most, most).exp() - 1 + delta
    return config.kl * kl - gain


def naive_terms(
    model: Model,
    batch: list[Views],
    old: list[Tensor],
    anchor: list[Tensor],
    config: ClippedLoss | WeightedLoss,
) -> Terms:
    """Return one dense forward per view as one term per target."""
    terms: Terms = []
    for t, views in enumerate(batch):
        terms.append([])
        for v in range(len(views.target)):
            rows = dense_logits(model, views, v) / views.temperature
            logprobs = rows.masked_fill(~model.head.drawable, -torch.inf).log_softmax(-1)
            terms[-1].append(
                [
                    naive_term(
                        logprobs[s, views.canvas_ids[s]],
                        float(old[t][v, s]),
                        float(views.behavior_logprobs[v, s]),
                        float(anchor[t][v, s]),
                        float(views.advantages[s]),
                        config,
                    )
                    for s in views.target[v].nonzero()[:, 0].tolist()
                ]
            )
    return terms


def naive_value_terms(
    model: ActorCritic, batch: list[Views], old: list[Tensor], returns: list[Tensor], clip: float
) -> Terms:
    """Return the same of the values, in the same order."""
    critic = ValueModel(model.spec)
    critic.backbone, critic.value_head = model.policy.backbone, model.value_head
    terms: Terms = []
    for t, views in enumerate(batch):
        terms.append([])
        for v in range(len(views.target)):
            values = dense_values(critic, views, v)
            found = []
            for s in views.target[v].nonzero()[:, 0].tolist():
                near = old[t][v, s] + (values[s] - old[t][v, s]).clamp(-clip, clip)
                errors = [(value - returns[t][v, s]) ** 2 for value in (values[s], near)]
                found.append(torch.maximum(*errors) / 2)
            terms[-1].append(found)
    return terms


def reduced(terms: Terms, config: ClippedLoss | WeightedLoss) -> Tensor:
    """Average terms by the configured rule."""
    of_views = [view for trajectory in terms for view in trajectory]
    flat = [term for view in of_views for term in view]
    match config.reduction:
        case "tokens":
            return sum(flat, torch.zeros(())) / len(flat)
        case "sequence":
            means = [torch.stack([x for view in t for x in view]).mean() for t in terms]
            return torch.stack(means).mean()
        case "view":
            return torch.stack([torch.stack(view).mean() for view in of_views]).mean()
        case "constant":
            return sum(flat, torch.zeros(())) / (len(of_views) * LENGTH)


def packed_loss(
    model: Model | ActorCritic,
    batch: list[Views],
    old: list[Tensor],
    config: ClippedLoss | WeightedLoss,
    budget: int,
    objective: Callable[[Any, Pack], Any],
) -> Tensor:
    """Return it as the learner computes it."""
    policy = model.policy if isinstance(model, ActorCritic) else model
    weights, denominator = reduction_weights(
        [(v.target * v.weight).sum(-1) for v in batch], config.reduction, LENGTH
    )
    views = [
        replace(v, weight=v.weight * w[:, None], old_logprobs=o)
        for v, w, o in zip(batch, weights, old, strict=True)
    ]
    loss = torch.zeros((), dtype=torch.float64)
    for pack in pack_views(views, conventions_of(policy), budget):
        scores = score_pack(model, pack)
        loss = loss + (objective(scores, pack).loss * pack.weights).sum() / denominator
    return loss


def assert_same(
    model: Model | ActorCritic, expected: Tensor, packed: Callable[[int], Tensor]
) -> None:
    """Hold a packed loss, under two budgets, and its gradients to an expected one."""
    wanted = gradients_of(model, expected)
    largest = max(float(g.abs().max()) for g in wanted.values())
    for budget in (8192, 64):
        found = packed(budget)
        assert float(found.detach()) == pytest.approx(
            float(expected.detach()), rel=1e-10, abs=1e-10
        )
        got = gradients_of(model, found)
        assert got.keys() == wanted.keys()
        for name, gradient in wanted.items():
            assert float((got[name] - gradient).abs().max()) <= 1e-10 * largest, name


def gradients_of(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


# Every other pair, so that each method meets three kinds of model and each kind half of the methods. Under full
# attention there are no blocks that could be larger.
CASES = [
    (method, kind)
    for m, method in enumerate(METHODS)
    for k, kind in enumerate(TOYS)
    if (m + k) % 2 == 0 and (method != "larger blocks" or "block" in kind)
]


@pytest.mark.parametrize(("method", "kind"), CASES)
def test_loss_and_gradient_are_those_of_plain_loops(method: str, kind: str) -> None:
    model = model_of(kind, torch.float64)
    config = METHODS[method]
    loss = config.loss
    batch = batch_of(model, config)
    assert fmean(len(v.target) for v in batch) > 1
    scored = Scorer(model_of(kind, torch.float64), 8192).score(batch)
    old, anchor = tables_near(scored, 0), tables_near(scored, 1)
    expected = reduced(naive_terms(model, batch, old, anchor, loss), loss)
    tables = {"reference": TargetTable(anchor)}
    objective = partial(build_policy_objective(config), tables=tables)
    assert_same(
        model, expected, lambda budget: packed_loss(model, batch, old, loss, budget, objective)
    )


@pytest.mark.parametrize(("method", "kind"), [case for case in CASES if case[0] in TRACED])
def test_so_are_those_of_policy_and_critic_on_one_backbone(method: str, kind: str) -> None:
    model = ActorCritic(model_of(kind, torch.float64))
    torch.manual_seed(0)
    torch.nn.init.normal_(model.value_head.weight, std=0.3)
    config = METHODS[method]
    loss = config.loss
    advantage = SharedValueAdvantage(weight=0.7)
    batch = batch_of(model.policy, config)
    scored = Scorer(model_of(kind, torch.float64), 8192).score(batch)
    old, anchor = tables_near(scored, 0), tables_near(scored, 1)
    values, returns = (tables_near([torch.zeros_like(t) for t in scored], n) for n in (2, 3))
    policy_terms = naive_terms(model.policy, batch, old, anchor, loss)
    value_terms = naive_value_terms(model, batch, values, returns, advantage.clip)
    expected = reduced(policy_terms, loss) + advantage.weight * reduced(value_terms, loss)
    columns = {"reference": anchor, "values": values, "returns": returns}
    tables = {name: TargetTable(rows) for name, rows in columns.items()}
    joint = build_joint_objective(build_policy_objective(config), advantage)
    objective = partial(joint, tables=tables)
    assert_same(
        model, expected, lambda budget: packed_loss(model, batch, old, loss, budget, objective)
    )
