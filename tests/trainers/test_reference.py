"""The reference: the log-probabilities of a frozen model."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.diffusion.trajectories import CONVENTIONS
from tests.toy import toy_checkpoint, toy_model
from tests.trainers.toy_runs import policy_views, rl_config
from unmask.checkpoints.checkpoint import load_model
from unmask.configs.optimizer import OptimizerConfig
from unmask.diffusion.layout import pack_views
from unmask.diffusion.target_table import TargetTable
from unmask.models.lora import LoRAParams, adapters, add_lora
from unmask.trainers.learner import Learner
from unmask.trainers.reference import Scorer, build_reference

REFERENCE = "loss.kl_to=reference"


def test_a_scorer_and_a_learner_of_the_same_weights_agree() -> None:
    model = toy_model(dtype=torch.float64)
    views = policy_views(model)
    learner = Learner(model, OptimizerConfig(token_budget=64))
    for budget in (32, 8192):
        found = Scorer(toy_model(dtype=torch.float64), budget).score(views)
        for ours, theirs, looks in zip(found, learner.score(views), views, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
            assert torch.equal(ours != 0, looks.target)


def test_scores_follow_their_trajectory_into_any_order() -> None:
    views = policy_views(toy_model())
    scored = Scorer(toy_model(seed=3), 8192).score(views)
    order = [3, 0, 5, 1]
    table = TargetTable([scored[n] for n in order])
    for pack in pack_views([views[n] for n in order], CONVENTIONS, 48):
        for row, (place, view, slot) in enumerate(pack.origin.T.tolist()):
            assert table.read(pack.origin)[row] == scored[order[place]][view, slot]


def test_a_scorer_is_frozen() -> None:
    scorer = Scorer(toy_model(), 8192)
    assert not any(p.requires_grad for p in scorer.model.parameters())
    assert not any(t.requires_grad for t in scorer.score(policy_views(toy_model())))


def test_with_adapters_the_reference_is_the_policy_without_them(tmp_path: Path) -> None:
    config = rl_config(tmp_path, REFERENCE, "lora.rank=2")
    model, plain = (load_model(tmp_path / "checkpoint", dtype=torch.float64) for _ in range(2))
    add_lora(model, LoRAParams(rank=2))
    with torch.no_grad():
        for adapter in adapters(model).values():
            adapter.lora_b.add_(0.3)
    views = policy_views(plain)
    reference = build_reference(config, model)
    assert reference is not None and reference.model is model
    expected = Scorer(plain, 8192).score(views)
    with_adapters = Learner(model, config.optimizer).score(views)
    for found, wanted, moved in zip(reference.score(views), expected, with_adapters, strict=True):
        assert torch.equal(found, wanted) and not torch.equal(found, moved)
    assert any(p.requires_grad for p in model.parameters())


def test_the_reference_is_the_starting_model_unless_another_is_named(tmp_path: Path) -> None:
    config = rl_config(tmp_path, REFERENCE)
    model = load_model(tmp_path / "checkpoint")
    assert build_reference(rl_config(tmp_path), model) is None
    own = build_reference(config, model)
    assert own is not None and own.model is not model
    assert not any(p.requires_grad for p in own.model.parameters())
    assert all(map(torch.equal, own.model.parameters(), model.parameters()))
    other = toy_checkpoint(tmp_path / "other", seed=5)
    named = build_reference(rl_config(tmp_path, f"loss.kl_to={other}"), model)
    assert named is not None
    assert not all(map(torch.equal, named.model.parameters(), model.parameters()))


def test_a_reference_with_other_tokens_is_refused(tmp_path: Path) -> None:
    config = rl_config(tmp_path, REFERENCE)
    model = load_model(tmp_path / "checkpoint")
    model.spec = replace(model.spec, vocab_size=99)
    with pytest.raises(ValueError, match=r"loss\.kl_to = .*checkpoint: its vocab_size is 22, the"):
        build_reference(config, model)
