"""The learner: one definition of a log-probability, one optimizer step, and no step on nonsense."""

import math
from statistics import fmean
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.toy import toy_model
from tests.trainers.toy_runs import policy_views, supervised_views
from unmask.configs.optimizer import OptimizerConfig
from unmask.configs.sft import SFTConfig
from unmask.diffusion.layout import Pack
from unmask.models.heads import Scores
from unmask.models.transformer import Model
from unmask.objectives.loss import LossOutput
from unmask.objectives.statistics import Statistic
from unmask.trainers.learner import Learner, Objective
from unmask.trainers.losses import build_supervised_objective

LIKELIHOOD = build_supervised_objective(SFTConfig.model_validate({"model": {"path": "-"}}))
# With so large an epsilon AdamW's first step is minus the gradient, to about seven digits.
PLAIN = {"lr": 1e7, "eps": 1e7, "clip_norm": None}


def learner_of(model: Model, **settings: object) -> Learner:
    return Learner(model, OptimizerConfig.model_validate(settings))


def weights(model: Model) -> Tensor:
    return torch.cat([p.detach().flatten().clone() for p in model.parameters()])


@pytest.mark.parametrize(
    "sampling", [{}, {"temperature": 0.7}, {"strategy": "static", "denoising_steps": 2}]
)
def test_score_gives_the_logprobs_the_engine_saw(sampling: dict[str, Any]) -> None:
    model = toy_model()
    views = policy_views(model, **sampling)
    scored = learner_of(model).score(views)
    for looks, found in zip(views, scored, strict=True):
        behavior = looks.behavior_logprobs.expand_as(found)
        torch.testing.assert_close(found[looks.target], behavior[looks.target], atol=1e-4, rtol=0)
        assert not found[~looks.target].any()


def test_an_update_changes_every_weight_matrix_and_lowers_the_loss() -> None:
    model = toy_model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    learner, views = learner_of(model, lr=1e-2), supervised_views()
    losses = [learner.update(views, LIKELIHOOD, 30.0).loss for _ in range(5)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.8 * losses[0]
    assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_loss_is_the_weighted_sum_over_the_denominator() -> None:
    views = supervised_views()
    learner = learner_of(toy_model(dtype=torch.float64))
    scored = learner.score(views)
    expected = sum(
        float((-s * v.weight)[v.target].sum()) for s, v in zip(scored, views, strict=True)
    )
    assert learner.update(views, LIKELIHOOD, 7.0).loss == pytest.approx(expected / 7)


@pytest.mark.parametrize("token_budget", [32, 8192])
def test_statistics_are_means_and_maxima_over_all_targets(token_budget: int) -> None:
    def objective(scores: Scores, pack: Pack) -> LossOutput:
        statistics = {
            "mean": Statistic(scores.logprobs),
            "top": Statistic(-scores.logprobs, "max"),
            "position": Statistic(pack.origin[2], "max"),
            "count": Statistic(torch.ones_like(scores.logprobs), "sum"),
        }
        return LossOutput(scores.logprobs, statistics)

    learner, views = learner_of(toy_model(), token_budget=token_budget), supervised_views()
    scored = learner.score(views)
    values = [x for s, v in zip(scored, views, strict=True) for x in s[v.target].tolist()]
    statistics = learner.update(views, objective, 1.0).values
    assert statistics["mean"] == pytest.approx(fmean(values), abs=1e-5)
    assert statistics["top"] == pytest.approx(-min(values), abs=1e-5)
    assert statistics["count"] == len(values)
    assert statistics["position"] == max(int(v.target.any(0).nonzero().max()) for v in views)


def test_gradients_are_scaled_down_to_clip_norm_and_reported_as_they_were() -> None:
    views, changes, norms = supervised_views(), {}, {}
    for limit in (None, 0.01, 1e6):
        model = toy_model(dtype=torch.float64)
        before = weights(model)
        update = learner_of(model, **{**PLAIN, "clip_norm": limit}).update(views, LIKELIHOOD, 1.0)
        changes[limit], norms[limit] = before - weights(model), update.values["gradient_norm"]
    assert norms[None] == norms[0.01] == norms[1e6]
    assert float(changes[None].norm()) == pytest.approx(norms[None], rel=1e-4)
    assert float(changes[0.01].norm()) == pytest.approx(0.01, rel=1e-4)
    torch.testing.assert_close(changes[1e6], changes[None])
    torch.testing.assert_close(
        changes[0.01] * (norms[None] / 0.01), changes[None], rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gradient_that_is_not_finite_leaves_no_trace(value: float, dtype: torch.dtype) -> None:
    def broken(scores: Scores, pack: Pack) -> LossOutput:
        return LossOutput(scores.logprobs * value)

    def run(*objectives: Objective) -> tuple[Tensor, int]:
        model = toy_model(dtype=dtype)
        learner = learner_of(model, lr=1e-2)
        for objective in objectives:
            before = weights(model)
            if objective is broken:
                with pytest.raises(ValueError, match="gradient of update 1 is"):
                    learner.update(views, objective, 1.0)
                assert torch.equal(weights(model), before)
            else:
                learner.update(views, objective, 1.0)
        return weights(model), learner.num_updates

    views = supervised_views()
    (after, updates), (expected, _) = run(broken, LIKELIHOOD), run(LIKELIHOOD)
    assert torch.equal(after, expected)
    assert updates == 1


def test_norms_have_no_weight_decay_and_matrices_have() -> None:
    def nothing(scores: Scores, pack: Pack) -> LossOutput:
        return LossOutput(scores.logprobs * 0)

    model = toy_model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    learner_of(model, lr=0.1, weight_decay=0.5).update(supervised_views(), nothing, 1.0)
    for name, parameter in model.named_parameters():
        kept = 0.95 if parameter.dim() >= 2 else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * kept)


def test_the_learning_rate_is_the_one_given_else_the_configs() -> None:
    learner, views = learner_of(toy_model(), lr=0.4), supervised_views(1)
    given = learner.update(views, LIKELIHOOD, 1.0, rate=0.1)
    silent = learner.update(views, LIKELIHOOD, 1.0)
    assert given.values["learning_rate"] == 0.1
    assert silent.values["learning_rate"] == 0.4


def test_a_batch_without_a_target_changes_nothing() -> None:
    views = supervised_views(1)
    for looks in views:
        looks.target.zero_()
    model = toy_model()
    before = weights(model)
    assert learner_of(model).update(views, LIKELIHOOD, 1.0).loss == 0
    assert torch.equal(weights(model), before)


def test_bf16_learns_from_steps_below_its_own_resolution() -> None:
    model = toy_model(dtype=torch.bfloat16)
    before = weights(model)
    learner, views = learner_of(model, lr=2e-5), supervised_views()
    learner.update(views, LIKELIHOOD, 30.0)
    first = (weights(model) != before).float().mean()
    for _ in range(30):
        learner.update(views, LIKELIHOOD, 30.0)
    assert first < 0.1
    assert (weights(model) != before).float().mean() > 3 * first


def test_a_parameter_may_have_a_learning_rate_of_its_own_on_the_same_schedule() -> None:
    """AdamW's first step is the learning rate, whatever the gradient."""
    model, name = toy_model(dtype=torch.float64), "backbone.layers.0.attention.q.weight"
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    own = {name: 3e-3}
    learner = Learner(model, OptimizerConfig(lr=1e-3, eps=1e-30, clip_norm=None), own)
    learner.update(supervised_views(), LIKELIHOOD, 30.0, rate=5e-4)  # half of the config's
    for other, weight in model.named_parameters():
        most = float((weight.detach() - before[other]).abs().max())
        assert most == pytest.approx(1.5e-3 if other == name else 5e-4)


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 16), (torch.bfloat16, 20)])
def test_memory_is_the_documented_bytes_per_parameter(dtype: torch.dtype, size: int) -> None:
    model = toy_model(0, dtype, width=512, ffn_width=2048, num_layers=4)
    count = sum(p.numel() for p in model.parameters())
    assert learner_of(model).memory == f"{size * count / 2**30:.2f} GiB"
    of_device = 2 * dtype.itemsize * count
    assert learner_of(model, offload=True).memory == (
        f"{of_device / 2**30:.2f} GiB on the device and {16 * count / 2**30:.2f} GiB in host memory"
    )
