"""Objectives as the learner takes them."""

import math
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from tests.diffusion.trajectories import CONVENTIONS
from tests.toy import toy_model
from tests.trainers.toy_methods import row
from tests.trainers.toy_runs import policy_views, supervised_views
from unmask.configs.sft import SFTConfig
from unmask.diffusion.layout import Pack, empty_pack, pack_views
from unmask.diffusion.target_table import TargetTable
from unmask.models.heads import Scores
from unmask.objectives.loss import LossOutput
from unmask.trainers.losses import (
    build_policy_objective,
    build_supervised_objective,
    needs_rescoring,
)


@pytest.fixture(scope="module")
def pack() -> Pack:
    """A pack of trajectories of the toy model, in fp64."""
    (found,) = pack_views(policy_views(toy_model(dtype=torch.float64)), CONVENTIONS, 8192)
    return found


def scores_of(logprobs: Tensor) -> Scores:
    leaf = logprobs.detach().clone().requires_grad_()
    return Scores(leaf, torch.full_like(leaf, 2.0).detach())


def values(output: LossOutput, name: str) -> Tensor:
    """Return the values `(S,)` of a statistic."""
    return output.statistics[name].values


def gradient(loss: Tensor, scores: Scores) -> Tensor:
    (found,) = torch.autograd.grad(loss.sum(), scores.logprobs)
    return found


def test_the_supervised_loss_is_the_likelihood() -> None:
    (pack,) = pack_views(supervised_views(), CONVENTIONS, 8192)
    scores = scores_of(torch.linspace(-3, -1, pack.targets.shape[0]))
    config = SFTConfig.model_validate({"model": {"path": "-"}})
    output = build_supervised_objective(config)(scores, pack)
    assert torch.equal(output.loss, -scores.logprobs)
    assert torch.equal(values(output, "nll"), output.loss)
    assert torch.equal(values(output, "entropy"), scores.entropy)


def test_a_single_update_has_ratio_1_and_the_plain_policy_gradient(pack: Pack) -> None:
    scores = scores_of(pack.behavior_logprobs + 0.5)
    output = build_policy_objective(row(minibatches=1))(scores, pack)
    assert torch.equal(values(output, "ratio"), torch.ones_like(scores.logprobs))
    assert not values(output, "clipped").any()
    assert not values(output, "kl").any()
    torch.testing.assert_close(
        gradient(output.loss, scores), -pack.advantages.double(), check_dtype=False
    )


def test_several_updates_measure_from_the_old_logprobs_and_clip(pack: Pack) -> None:
    config = row(loss={"clip": [0.1, 0.3]})
    scores = scores_of(pack.old_logprobs + 0.5)
    output = build_policy_objective(config)(scores, pack)
    is_good = pack.advantages > 0
    assert 0 < is_good.sum() < len(is_good)
    assert torch.equal(values(output, "clipped"), is_good)
    ratio = torch.full_like(scores.logprobs, 0.5).exp()
    torch.testing.assert_close(values(output, "ratio"), ratio)
    expected = -pack.advantages * torch.where(is_good, 1.3, ratio)
    torch.testing.assert_close(output.loss, expected, check_dtype=False)


def test_the_gap_is_the_distance_from_the_engine_whatever_the_old_logprobs(pack: Pack) -> None:
    moved = replace(pack, old_logprobs=pack.old_logprobs - 7)
    distance = torch.linspace(-1, 0.5, pack.targets.shape[0], dtype=torch.float64)
    scores = scores_of(pack.behavior_logprobs + distance)
    output = build_policy_objective(row())(scores, moved)
    torch.testing.assert_close(values(output, "logprob_gap"), distance.abs())
    assert values(output, "logprob_gap_max").max() == pytest.approx(1.0)
    assert not values(output, "logprob_gap").requires_grad


def test_kl_is_added_with_its_weight(pack: Pack) -> None:
    scores = scores_of(pack.old_logprobs + 0.05)
    output = {kl: build_policy_objective(row(loss={"kl": kl}))(scores, pack) for kl in (0.0, 2.0)}
    kl = values(output[0.0], "kl")
    torch.testing.assert_close(output[2.0].loss - output[0.0].loss, 2 * kl)
    assert (kl > 0).all()


def test_the_kl_is_measured_from_the_reference_where_there_is_one(pack: Pack) -> None:
    scores = scores_of(pack.old_logprobs + 0.05)
    count, shape = int(pack.origin[0].max()) + 1, (9, 99)
    reference = TargetTable([torch.zeros(shape, dtype=torch.float64) for _ in range(count)])
    reference.write(pack.origin, pack.old_logprobs - 0.2)
    for estimator, expected in (("k1", 0.25), ("k3", math.exp(-0.25) - 1 + 0.25)):
        loss = {"kl": 2.0, "kl_to": "reference", "kl_estimator": estimator}
        for minibatches in (1, 2):
            config = row(loss=loss, minibatches=minibatches)
            output = build_policy_objective(config)(scores, pack, {"reference": reference})
            kl = values(output, "kl")
            torch.testing.assert_close(kl, torch.full_like(kl, expected))
            plain = build_policy_objective(row(minibatches=minibatches))(scores, pack)
            torch.testing.assert_close(output.loss - plain.loss, 2 * kl)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_far_from_the_old_policy_the_clamp_takes_the_surrogate_s_gradient_and_leaves_the_kl_s(
    estimator: Literal["k1", "k3"], pack: Pack
) -> None:
    """At a log-ratio of +15 and the published limit of 10."""
    scores = scores_of(pack.old_logprobs + 15)
    config = row(
        loss={"kl": 2.0, "kl_estimator": estimator, "max_log_ratio": 10, "clip": [0.2, 1e9]}
    )
    output = build_policy_objective(config)(scores, pack)
    kl, ratio = values(output, "kl"), values(output, "ratio")
    torch.testing.assert_close(ratio, torch.full_like(ratio, math.exp(10)))
    far = 15.0 if estimator == "k1" else 14 + math.exp(-10)
    torch.testing.assert_close(kl, torch.full_like(kl, far))
    found = gradient(output.loss, scores)
    torch.testing.assert_close(found, torch.full_like(found, 2.0))


def test_importance_weighs_the_surrogate_and_has_no_gradient(pack: Pack) -> None:
    shift = torch.linspace(-1, 1, pack.targets.shape[0], dtype=torch.float64)
    moved = replace(pack, behavior_logprobs=pack.old_logprobs - shift)
    scores = scores_of(pack.old_logprobs + 0.05)
    plain = build_policy_objective(row())(scores, moved)
    config = row(loss={"max_importance": 1.5})
    output = build_policy_objective(config)(scores, moved)
    weight = shift.exp().clamp(max=1.5)
    torch.testing.assert_close(output.loss, weight * plain.loss)
    torch.testing.assert_close(values(output, "importance"), weight)
    assert float(values(output, "importance_max").max()) == 1.5
    torch.testing.assert_close(gradient(output.loss, scores), weight * gradient(plain.loss, scores))
    # With a single update the old policy is the learner's own, now.
    config = row(loss={"max_importance": 1.5}, minibatches=1)
    single = build_policy_objective(config)(scores, moved)
    torch.testing.assert_close(values(single, "importance"), (shift + 0.05).exp().clamp(max=1.5))


def test_the_dual_clip_bounds_what_a_bad_token_costs(pack: Pack) -> None:
    scores = scores_of(pack.old_logprobs + 2.0)
    config = row(loss={"dual_clip": 3.0})
    output = build_policy_objective(config)(scores, pack)
    is_bad = pack.advantages < 0
    assert torch.equal(values(output, "dual_clipped"), is_bad)
    torch.testing.assert_close(
        output.loss[is_bad], -3.0 * pack.advantages[is_bad], check_dtype=False
    )
    plain = build_policy_objective(row())(scores, pack)
    assert "dual_clipped" not in plain.statistics
    assert torch.equal(output.loss[~is_bad], plain.loss[~is_bad])
    assert float(values(plain, "ratio_max").detach().max()) == pytest.approx(math.exp(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shrink", [1, 2])
def test_rescoring_is_for_several_updates_of_other_views_or_inexact_numbers(
    dtype: torch.dtype, shrink: int
) -> None:
    assert not needs_rescoring(row({"shrink": shrink}, minibatches=1), dtype)
    expected = shrink > 1 or dtype == torch.bfloat16
    assert needs_rescoring(row({"shrink": shrink}), dtype) == expected
    exact = row({"shrink": shrink}, model={"path": "toy", "batch_invariant": True})
    assert needs_rescoring(exact, dtype) == (shrink > 1)


def test_views_the_engine_never_saw_are_always_scored_again() -> None:
    for views in (
        {"kind": "random"},
        {"kind": "coupled"},
        {"train_block": 8},
        {"train_block": [[3, 8]]},
    ):
        assert needs_rescoring(row(views), torch.float32)
        assert not needs_rescoring(row(views, minibatches=1), torch.float32)


STALE = {"rollout": {"workers": 1, "staleness": 1}, "loss": {"max_importance": 1.5}}


def test_the_old_policy_of_stale_rollouts_is_scored_again() -> None:
    assert needs_rescoring(row(**STALE), torch.float32)
    assert not needs_rescoring(row(minibatches=1, **STALE), torch.float32)


def test_the_gradient_of_stale_rollouts_is_weighed_by_the_policy_over_its_behavior(
    pack: Pack,
) -> None:
    """In one update `pi_old` is the policy itself; the ratio is 1, and the weight has no gradient."""
    shift = torch.linspace(-0.5, 0.8, len(pack.behavior_logprobs))
    scores = scores_of(pack.behavior_logprobs + shift)
    output = build_policy_objective(row(minibatches=1, **STALE))(scores, pack)
    weight = shift.double().exp().clamp(max=1.5)
    torch.testing.assert_close(gradient(output.loss, scores), -weight * pack.advantages.double())
    assert torch.equal(values(output, "ratio").detach(), torch.ones_like(weight))
    assert "logprob_gap" not in output.statistics  # it would be the distance between two policies


def test_a_rank_without_targets_has_no_moves() -> None:
    objective = build_policy_objective(row(loss={"likelihood": "move", "per_move": True}))
    none = torch.zeros(0, dtype=torch.float64, requires_grad=True)
    assert objective(Scores(none, none.detach()), empty_pack(8)).loss.shape == (0,)
