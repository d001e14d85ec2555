"""Updates by losses of whole responses: their numbers, and that packs do not matter (law 4)."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.invariants.conventions import model_of
from tests.toy import toy_model
from tests.trainers.test_policy_update import policy_update, views_of_method
from tests.trainers.toy_methods import FILES, OF_RESPONSES, row, shipped
from tests.trainers.toy_runs import policy_views, toy_trajectories
from unmask.configs.methods import partner
from unmask.trainers.losses import build_policy_objective, linear_objective
from unmask.trainers.rollout_views import outcome_columns
from unmask.trainers.views_loss import build_linearise
from unmask.types import Group

# With so large an epsilon the first steps of AdamW are minus the gradient, to about seven digits.
PLAIN = ["optimizer.lr=1e3", "optimizer.eps=1e7", "optimizer.clip_norm=none"]
# Of the longest of six responses, the prompt, the canvas and a noisy block; or one view of it.
SMALLEST = 28


def updated(name: str, budget: int, kind: str) -> tuple[dict[str, float], Tensor]:
    """Take one step of two updates and return its metrics and the change of the weights."""
    model = model_of(kind, torch.float64)
    words = ["epochs=1", "minibatches=2", *PLAIN, f"optimizer.token_budget={budget}"]
    config = shipped(name, *words)
    of_trajectory = partner(config.views, "unmask.diffusion.methods").of_trajectory
    written = toy_trajectories(model)
    views = [
        of_trajectory(t, 1.5 - n, config.views, model.spec.is_full) for n, t in enumerate(written)
    ]
    before = [p.detach().clone() for p in model.parameters()]
    outcomes = [float(n % 2) for n in range(len(written))]
    group = Group(written[0].prompt, written, outcomes, {"outcome": outcomes})
    columns = outcome_columns([group], views, config)
    metrics = policy_update(model, config)(views, seed=0, rate=1e3, columns=columns)
    change = [old - new.detach() for old, new in zip(before, model.parameters(), strict=True)]
    return metrics, torch.cat([c.flatten() for c in change])


# Of a value model and of a teacher packs of any size are in tests of their own.
@pytest.mark.parametrize("name", [n for n in FILES if n not in ("tracerl_value", "dopsd")])
def test_microbatches_of_any_size_are_one_batch(name: str) -> None:
    kind = ("block-causal", "full, shifted", "block-causal, experts")[list(FILES).index(name) % 3]
    whole, expected = updated(name, 8192, kind)
    parts, change = updated(name, SMALLEST, kind)
    assert expected.abs().max() > 1e-8
    torch.testing.assert_close(change, expected, rtol=1e-7, atol=1e-12 * 1e3)
    counted = {"packed_tokens"}
    assert {k: v for k, v in parts.items() if k not in counted} == pytest.approx(
        {k: v for k, v in whole.items() if k not in counted}, rel=1e-7, abs=1e-9
    )


@pytest.mark.parametrize("name", OF_RESPONSES)
def test_the_first_ratio_of_a_step_is_1(name: str) -> None:
    model = toy_model(dtype=torch.float64)
    config = shipped(name, "minibatches=1", "epochs=1")
    metrics = policy_update(model, config)(views_of_method(model, config), seed=0, rate=1e-12)
    assert metrics["updates"] == 1 and metrics["entropy"] > 0
    if "ratio" in metrics:
        assert metrics["ratio"] == metrics["ratio_max"] == 1


def test_later_updates_are_measured_from_the_start_of_the_step() -> None:
    model = toy_model(dtype=torch.float64)
    config = row({"kind": "counted"}, {"kind": "sequence_ratio"}, minibatches=1, epochs=2)
    metrics = policy_update(model, config)(views_of_method(model, config), seed=0, rate=0.05)
    assert abs(metrics["ratio"] - 1) > 1e-3 and metrics["kl"] > 0


def test_losses_of_targets_have_no_first_half() -> None:
    assert build_linearise(row()) is None
    assert (
        build_policy_objective(row({"kind": "counted"}, {"kind": "sandwich"})) is linear_objective
    )


def test_the_loss_reported_is_that_of_the_responses(tmp_path: Path) -> None:
    """On policy the surrogate of a response is its advantage."""
    model = toy_model(dtype=torch.float64)
    config = row(loss={"kind": "sequence_ratio"}, minibatches=1)
    metrics = policy_update(model, config)(policy_views(model), seed=0, rate=1e-12)
    assert metrics["loss"] == pytest.approx(-sum(1.5 - n for n in range(6)) / 6)
    assert (
        metrics["logprob_gap_max"] < 1e-9
    )  # along the trajectory the engine has scored the same views
