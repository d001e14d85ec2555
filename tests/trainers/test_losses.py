"""Objectives as the learner takes them."""

import math
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from tests.diffusion.trajectories import CONVENTIONS
from tests.toy import toy_model
from tests.trainers.toy_runs import policy_views, supervised_views
from unmask.configs.objective import ObjectiveConfig
from unmask.diffusion.layout import Pack, pack_views
from unmask.models.heads import Scores
from unmask.trainers.losses import build_policy_terms, needs_rescoring, supervised_terms
from unmask.trainers.scorer import RowTable


@pytest.fixture(scope="module")
def pack() -> Pack:
    """A pack of trajectories of the toy model, in fp64."""
    (found,) = pack_views(policy_views(toy_model(dtype=torch.float64)), CONVENTIONS, 8192)
    return found


def scores_of(logprobs: Tensor) -> Scores:
    leaf = logprobs.detach().clone().requires_grad_()
    return Scores(leaf, torch.full_like(leaf, 2.0).detach())


def gradient(loss: Tensor, scores: Scores) -> Tensor:
    (found,) = torch.autograd.grad(loss.sum(), scores.logprobs)
    return found


def test_supervised_terms_are_the_likelihood() -> None:
    (pack,) = pack_views(supervised_views(), CONVENTIONS, 8192)
    scores = scores_of(torch.linspace(-3, -1, pack.targets.shape[0]))
    terms = supervised_terms(scores, pack)
    assert torch.equal(terms.loss, -scores.logprobs)
    assert torch.equal(terms.means["nll"], terms.loss)
    assert torch.equal(terms.means["entropy"], scores.entropy)


def test_a_single_update_has_ratio_1_and_the_plain_policy_gradient(pack: Pack) -> None:
    scores = scores_of(pack.behavior_logprobs + 0.5)
    terms = build_policy_terms(ObjectiveConfig(kl=3.0), is_single_update=True)(scores, pack)
    assert torch.equal(terms.means["ratio"], torch.ones_like(scores.logprobs))
    assert not terms.means["clipped"].any()
    assert not terms.means["kl"].any()
    torch.testing.assert_close(
        gradient(terms.loss, scores), -pack.advantages.double(), check_dtype=False
    )


def test_several_updates_measure_from_the_old_logprobs_and_clip(pack: Pack) -> None:
    config = ObjectiveConfig(clip_low=0.1, clip_high=0.3)
    scores = scores_of(pack.old_logprobs + 0.5)
    terms = build_policy_terms(config, is_single_update=False)(scores, pack)
    is_good = pack.advantages > 0
    assert 0 < is_good.sum() < len(is_good)
    assert torch.equal(terms.means["clipped"], is_good)
    ratio = torch.full_like(scores.logprobs, 0.5).exp()
    torch.testing.assert_close(terms.means["ratio"], ratio)
    expected = -pack.advantages * torch.where(is_good, 1.3, ratio)
    torch.testing.assert_close(terms.loss, expected, check_dtype=False)


def test_the_gap_is_the_distance_from_the_engine_whatever_the_old_logprobs(pack: Pack) -> None:
    moved = replace(pack, old_logprobs=pack.old_logprobs - 7)
    distance = torch.linspace(-1, 0.5, pack.targets.shape[0], dtype=torch.float64)
    scores = scores_of(pack.behavior_logprobs + distance)
    terms = build_policy_terms(ObjectiveConfig(), is_single_update=False)(scores, moved)
    torch.testing.assert_close(terms.means["logprob_gap"], distance.abs())
    assert terms.maxima["logprob_gap_max"].max() == pytest.approx(1.0)
    assert not terms.means["logprob_gap"].requires_grad


def test_kl_is_added_with_its_weight(pack: Pack) -> None:
    scores = scores_of(pack.old_logprobs + 0.05)
    terms = {
        kl: build_policy_terms(ObjectiveConfig(kl=kl), is_single_update=False)(scores, pack)
        for kl in (0.0, 2.0)
    }
    torch.testing.assert_close(terms[2.0].loss - terms[0.0].loss, 2 * terms[0.0].means["kl"])
    assert (terms[0.0].means["kl"] > 0).all()


def test_the_kl_is_measured_from_the_reference_where_there_is_one(pack: Pack) -> None:
    scores = scores_of(pack.old_logprobs + 0.05)
    count, shape = int(pack.origin[0].max()) + 1, (9, 99)
    reference = RowTable([torch.zeros(shape, dtype=torch.float64) for _ in range(count)])
    reference.write(pack.origin, pack.old_logprobs - 0.2)
    for estimator, expected in (("k1", 0.25), ("k3", math.exp(-0.25) - 1 + 0.25)):
        config = ObjectiveConfig(kl=2.0, kl_to="reference", kl_estimator=estimator)
        for is_single in (False, True):
            terms = build_policy_terms(config, is_single)(scores, pack, {"reference": reference})
            kl = terms.means["kl"]
            torch.testing.assert_close(kl, torch.full_like(kl, expected))
            plain = build_policy_terms(ObjectiveConfig(), is_single)(scores, pack)
            torch.testing.assert_close(terms.loss - plain.loss, 2 * kl)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_far_from_the_old_policy_the_clamp_takes_the_surrogate_s_gradient_and_leaves_the_kl_s(
    estimator: Literal["k1", "k3"], pack: Pack
) -> None:
    """At a log-ratio of +15 and the published limit of 10."""
    scores = scores_of(pack.old_logprobs + 15)
    config = ObjectiveConfig(kl=2.0, kl_estimator=estimator, max_log_ratio=10, clip_high=1e9)
    terms = build_policy_terms(config, is_single_update=False)(scores, pack)
    kl, ratio = terms.means["kl"], terms.means["ratio"]
    torch.testing.assert_close(ratio, torch.full_like(ratio, math.exp(10)))
    far = 15.0 if estimator == "k1" else 14 + math.exp(-10)
    torch.testing.assert_close(kl, torch.full_like(kl, far))
    found = gradient(terms.loss, scores)
    torch.testing.assert_close(found, torch.full_like(found, 2.0))


def test_importance_weighs_the_surrogate_and_has_no_gradient(pack: Pack) -> None:
    shift = torch.linspace(-1, 1, pack.targets.shape[0], dtype=torch.float64)
    moved = replace(pack, behavior_logprobs=pack.old_logprobs - shift)
    scores = scores_of(pack.old_logprobs + 0.05)
    plain = build_policy_terms(ObjectiveConfig(), is_single_update=False)(scores, moved)
    config = ObjectiveConfig(max_importance=1.5)
    terms = build_policy_terms(config, is_single_update=False)(scores, moved)
    weight = shift.exp().clamp(max=1.5)
    torch.testing.assert_close(terms.loss, weight * plain.loss)
    torch.testing.assert_close(terms.means["importance"], weight)
    assert float(terms.maxima["importance_max"].max()) == 1.5
    torch.testing.assert_close(gradient(terms.loss, scores), weight * gradient(plain.loss, scores))
    # With a single update the old policy is the learner's own, now.
    single = build_policy_terms(config, is_single_update=True)(scores, moved)
    torch.testing.assert_close(single.means["importance"], (shift + 0.05).exp().clamp(max=1.5))


def test_the_dual_clip_bounds_what_a_bad_token_costs(pack: Pack) -> None:
    scores = scores_of(pack.old_logprobs + 2.0)
    config = ObjectiveConfig(dual_clip=3.0)
    terms = build_policy_terms(config, is_single_update=False)(scores, pack)
    is_bad = pack.advantages < 0
    assert torch.equal(terms.means["dual_clipped"], is_bad)
    torch.testing.assert_close(
        terms.loss[is_bad], -3.0 * pack.advantages[is_bad], check_dtype=False
    )
    plain = build_policy_terms(ObjectiveConfig(), is_single_update=False)(scores, pack)
    assert "dual_clipped" not in plain.means
    assert torch.equal(terms.loss[~is_bad], plain.loss[~is_bad])
    assert float(plain.maxima["ratio_max"].detach().max()) == pytest.approx(math.exp(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shrink", [1, 2])
def test_rescoring_is_for_several_updates_of_other_views_or_inexact_numbers(
    dtype: torch.dtype, shrink: int
) -> None:
    config = ObjectiveConfig(shrink=shrink)
    assert not needs_rescoring(config, is_single_update=True, dtype=dtype)
    expected = shrink > 1 or dtype == torch.bfloat16
    assert needs_rescoring(config, is_single_update=False, dtype=dtype) == expected


def test_views_the_engine_never_saw_are_always_scored_again() -> None:
    for config in (
        ObjectiveConfig(method="random"),
        ObjectiveConfig(method="coupled"),
        ObjectiveConfig(train_block=8),
        ObjectiveConfig(train_block=((3, 8),)),
    ):
        assert needs_rescoring(config, is_single_update=False, dtype=torch.float32)
        assert not needs_rescoring(config, is_single_update=True, dtype=torch.float32)
