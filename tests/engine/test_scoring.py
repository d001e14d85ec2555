"""Scores of packs: every target once, whatever the packs."""

from operator import attrgetter

import pytest
import torch

from tests.diffusion.trajectories import CONVENTIONS
from tests.toy import toy_model
from tests.trainers.toy_runs import policy_views
from unmask.diffusion.layout import pack_views
from unmask.engine.scoring import score_pack, score_views


@pytest.mark.parametrize("budget", [48, 8192])
def test_each_target_has_the_score_of_its_pack(budget: int) -> None:
    model = toy_model(dtype=torch.float64)
    views = policy_views(model)
    packs = pack_views(views, CONVENTIONS, budget)
    columns = (attrgetter("logprobs"), attrgetter("entropy"))
    logprobs, entropy = score_views(model, views, packs, columns)
    for pack in packs:
        scores = score_pack(model, pack)
        for row, (trajectory, view, position) in enumerate(pack.origin.T.tolist()):
            assert logprobs[trajectory][view, position] == scores.logprobs[row]
            assert entropy[trajectory][view, position] == scores.entropy[row]
    assert all(torch.equal(t != 0, v.target) for t, v in zip(logprobs, views, strict=True))
    assert not any(t.requires_grad for t in logprobs)


def test_no_views_have_no_scores() -> None:
    assert score_views(toy_model(), [], [], [attrgetter("logprobs")]) == [[]]
