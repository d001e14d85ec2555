"""The scorer: a frozen model's log-probabilities, kept by origin."""

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
from unmask.models.lora import LoRAParams, adapters, add_lora
from unmask.trainers.learner import Learner
from unmask.trainers.scorer import RowTable, Scorer, build_reference, score_views

REFERENCE = "objective.kl_to=reference"


def test_a_table_is_read_where_it_was_written() -> None:
    tables = [torch.arange(6.0).view(2, 3), torch.arange(10.0, 14).view(1, 4)]
    table = RowTable(tables)
    origin = torch.tensor([[0, 1, 0, 1], [1, 0, 0, 0], [2, 3, 1, 0]])
    assert table.read(origin).tolist() == [5, 13, 1, 10]
    table.write(origin[:, :2], torch.tensor([-1.0, -2.0]))
    assert [t.tolist() for t in table.tables()] == [[[0, 1, 2], [3, 4, -1]], [[10, 11, 12, -2]]]
    assert tables[0][1, 2] == 5


def test_a_table_of_nothing_is_empty() -> None:
    assert RowTable([]).tables() == []
    assert score_views([], [], lambda pack: pack, [lambda pack: pack.weights]) == [[]]


def test_a_scorer_says_what_a_learner_of_the_same_weights_says() -> None:
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
    table = RowTable([scored[n] for n in order])
    for pack in pack_views([views[n] for n in order], CONVENTIONS, 48):
        for row, (place, view, slot) in enumerate(pack.origin.T.tolist()):
            assert table.read(pack.origin)[row] == scored[order[place]][view, slot]


def test_a_scorer_is_frozen() -> None:
    scorer = Scorer(toy_model(), 8192)
    assert not any(p.requires_grad for p in scorer.model.parameters())
    assert not any(t.requires_grad for t in scorer.score(policy_views(toy_model())))


def test_beside_adapters_the_reference_is_the_policy_without_them(tmp_path: Path) -> None:
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
    named = build_reference(rl_config(tmp_path, REFERENCE, f"reference.path={other}"), model)
    assert named is not None
    assert not all(map(torch.equal, named.model.parameters(), model.parameters()))


def test_a_reference_that_speaks_of_other_tokens_is_refused(tmp_path: Path) -> None:
    config = rl_config(tmp_path, REFERENCE)
    model = load_model(tmp_path / "checkpoint")
    model.spec = replace(model.spec, vocab_size=99)
    with pytest.raises(
        ValueError, match=r"reference\.path = .*checkpoint: its vocab_size is 22, the"
    ):
        build_reference(config, model)
