"""Objectives as the learner takes them."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.toy import toy_model
from tests.trainers.toy_runs import policy_views, supervised_views
from unmask.configs.objective import ObjectiveConfig
from unmask.diffusion.layout import Pack, pack_views
from unmask.models.heads import Scores
from unmask.trainers.terms import build_policy_terms, needs_rescoring, supervised_terms


@pytest.fixture(scope="module")
def pack() -> Pack:
    """A pack of trajectories of the toy model, in fp64."""
    (found,) = pack_views(policy_views(toy_model(dtype=torch.float64)), 1, 8192)
    return found


def scores_of(logprobs: Tensor) -> Scores:
    leaf = logprobs.detach().clone().requires_grad_()
    return Scores(leaf, torch.full_like(leaf, 2.0).detach())


def gradient(loss: Tensor, scores: Scores) -> Tensor:
    (found,) = torch.autograd.grad(loss.sum(), scores.logprobs)
    return found


def test_supervised_terms_are_the_likelihood() -> None:
    (pack,) = pack_views(supervised_views(), 1, 8192)
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shrink", [1, 2])
def test_rescoring_is_for_several_updates_of_other_views_or_inexact_numbers(
    dtype: torch.dtype, shrink: int
) -> None:
    config = ObjectiveConfig(shrink=shrink)
    assert not needs_rescoring(config, is_single_update=True, dtype=dtype)
    expected = shrink > 1 or dtype == torch.bfloat16
    assert needs_rescoring(config, is_single_update=False, dtype=dtype) == expected
