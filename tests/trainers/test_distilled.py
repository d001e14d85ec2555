"""Distillation from a teacher that reads hints: through packs it is the sum over dense passes, one per view."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.invariants.conventions import model_of
from tests.invariants.test_law_3_packed_layout_is_view_by_view import dense_logits
from tests.trainers.toy_methods import row, shipped
from tests.trainers.toy_runs import rl_config, toy_trajectories
from unmask.configs.rl import RLConfig
from unmask.diffusion.layout import pack_views
from unmask.diffusion.methods.suffix import of_trajectory
from unmask.diffusion.target_table import tables_of
from unmask.diffusion.views import Views
from unmask.engine.scoring import score_pack
from unmask.models.conventions import conventions_of
from unmask.models.transformer import Model
from unmask.trainers.losses import build_policy_objective
from unmask.trainers.policy_update import read_by_teacher
from unmask.trainers.reference import Scorer
from unmask.trainers.rl import train_rl

BLOCKS = {"block_size": 4, "denoising_steps": 2, "strategy": "static"}


def config_of(top_k: int, direction: str) -> RLConfig:
    loss = {"kind": "distilled", "top_k": top_k, "direction": direction}
    sampling = {"block_size": 4, "max_tokens": 9}
    return row({"kind": "suffix", "retain": 0.5}, loss, {"kind": "none"}, sampling=sampling)


def predicted(model: Model, views: Views, view: int, hidden: Tensor) -> Tensor:
    """Return log-probabilities `(C, V)` of a dense pass over a view with these positions hidden."""
    logits = dense_logits(model, replace(views, hidden=hidden), view) / views.temperature
    return logits.masked_fill(~model.head.drawable, -torch.inf).log_softmax(-1)


def plain_loss(
    model: Model, teacher: Model, batch: list[Views], right: list[float], config: RLConfig
) -> Tensor:
    """Return the loss, one position of one view at a time."""
    total, loss = torch.zeros((), dtype=torch.float64), config.loss.model_dump()
    for views, is_right in zip(batch, right, strict=True):
        assert views.hints is not None
        for v in range(len(views.target)):
            own = predicted(model, views, v, views.hidden)
            other = predicted(teacher, views, v, views.hidden & ~views.hints).detach()
            for s in views.target[v].nonzero()[:, 0].tolist():
                ids = other[s].argsort(descending=True)[: loss["top_k"]]
                p, q = own[s][ids].log_softmax(-1), other[s][ids].log_softmax(-1)
                p, q = (p, q) if loss["direction"] == "reverse" else (q, p)
                total = total + is_right * (p.exp() * (p - q)).clamp(max=loss["token_clip"]).sum()
    return total


def gradients(model: Model, loss: Tensor) -> Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("direction", ["reverse", "forward"])
@pytest.mark.parametrize("kind", ["full", "full, shifted", "full, experts"])
def test_packs_give_the_loss_and_gradient_of_dense_passes(kind: str, direction: str) -> None:
    model, teacher = model_of(kind, torch.float64), model_of(kind, torch.float64)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    config = config_of(3, direction)
    written = toy_trajectories(model, 4, **BLOCKS)
    batch = [of_trajectory(t, 0.0, config.views, True) for t in written]  # pyright: ignore[reportArgumentType]
    assert any(v.hints is not None and v.hints.any() for v in batch)
    right = [1.0, 0.0, 1.0, 1.0]
    columns = [{"right": torch.full(v.target.shape, r)} for v, r in zip(batch, right, strict=True)]
    expected = plain_loss(model, teacher, batch, right, config)
    wanted = gradients(model, expected)
    scored = read_by_teacher(Scorer(teacher, 8192), batch, columns, 3)
    views, read = zip(*scored, strict=True)
    tables, objective = tables_of(read), build_policy_objective(config)
    for budget in (8192, 16):
        packs = pack_views(views, conventions_of(model), budget)
        assert (len(packs) == 1) == (budget == 8192)
        found = torch.zeros((), dtype=torch.float64)
        for pack in packs:
            found = found + objective(score_pack(model, pack), pack, tables).loss.sum()
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(gradients(model, found), wanted, rtol=1e-8, atol=1e-12)


def test_a_teacher_that_is_the_policy_and_reads_no_hint_teaches_nothing() -> None:
    model = model_of("full", torch.float64)
    config = config_of(20, "reverse")
    written = toy_trajectories(model, 2, **BLOCKS)
    batch = [of_trajectory(t, 0.0, config.views, True) for t in written]  # pyright: ignore[reportArgumentType]
    for views in batch:
        assert views.hints is not None
        views.hints.zero_()
    columns = [{"right": torch.ones(v.target.shape)} for v in batch]
    frozen = model_of("full", torch.float64)
    views, read = zip(*read_by_teacher(Scorer(frozen, 8192), batch, columns, 20), strict=True)
    (pack,) = pack_views(views, conventions_of(model), 8192)
    output = build_policy_objective(config)(score_pack(model, pack), pack, tables_of(read))
    assert output.loss.abs().max() < 1e-12


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["views=none", "views.kind=trace"], 'set views.kind = "suffix", or loss.kind = "clipped"'),
        (
            ["loss=none", "loss.kind=clipped"],
            'set loss.kind = "distilled", or views.kind = "trace"',
        ),
        (["sampling.block_size=none"], "set one below sampling.max_tokens = 256"),
        (["sampling.max_tokens=2"], "set one below sampling.max_tokens = 2"),
        (["loss.kl_to=step"], 'set loss.kl_to = "reference"'),
    ],
)
def test_what_leaves_no_teacher_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ValueError) as it:
        shipped("dopsd", *words)
    assert message in str(it.value)


def test_a_block_causal_model_is_refused_when_a_run_starts(tmp_path: Path) -> None:
    words = ["views.kind=suffix", "loss.kind=distilled", "sampling.block_size=4"]
    with pytest.raises(ValueError, match=r'set views.kind = "trace" and loss.kind = "clipped"'):
        train_rl(rl_config(tmp_path, *words))
