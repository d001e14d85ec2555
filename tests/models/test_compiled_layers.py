"""Compiled layers compute what eager ones do, within rounding: values and gradients, in every combination.

One test runs the real compiler; the others its `aot_eager` backend, which traces and differentiates the
same graphs and generates no code.
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.toy import SOFTMAX
from tests.models.toy import toy_model as toy_model_of
from unmask.models import transformer
from unmask.models.attention import plan_rows
from unmask.models.heads import Targets
from unmask.models.lora import LoRAParams, add_lora
from unmask.models.row_tile import inexact
from unmask.models.transformer import Model, after_attention, before_attention

toy_model = partial(toy_model_of, dtype=torch.float64)  # rounding is far below the tolerance


def trained(model: Model, num_rows: int = 16) -> tuple[Tensor, dict[str, Tensor]]:
    """Return log-probabilities of a forward pass, and the gradients of their sum."""
    ids, place = torch.arange(num_rows) % 19, torch.arange(num_rows)
    attend = plan_rows(torch.ones(1, num_rows, num_rows, dtype=torch.bool), num_rows)
    scores = model(ids, place, attend, place, Targets(ids, torch.ones(num_rows)))
    model.zero_grad()
    scores.logprobs.sum().backward()
    named = model.named_parameters()
    return scores.logprobs.detach(), {n: p.grad.clone() for n, p in named if p.grad is not None}


def check(model: Model, num_rows: int = 16) -> None:
    """Check a compiled model against the same weights, eager."""
    eager = copy.deepcopy(model)
    for layer in eager.backbone.layers:
        layer.before, layer.after = before_attention, after_attention
    torch.testing.assert_close(trained(model, num_rows), trained(eager, num_rows))


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Let layers be compiled without generating code."""
    halves = [
        torch.compile(half, backend="aot_eager") for half in (before_attention, after_attention)
    ]
    monkeypatch.setattr(transformer, "compiled_halves", lambda: halves)
    return partial(torch.compiler.reset)


def test_the_compiler_changes_values_and_gradients_by_rounding_alone() -> None:
    model = toy_model(num_layers=1)
    model.backbone.compile_layers()
    check(model)


@pytest.mark.usefixtures("traced")
def test_sizes_checkpointing_and_copies_compute_the_same() -> None:
    model = toy_model()
    model.backbone.compile_layers()
    for num_rows in (16, 24, 40):
        check(model, num_rows)
    model.backbone.gradient_checkpointing = True
    check(model)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.backbone.layers[0].ffn.down.weight.mul_(2)
    check(other)
    assert not trained(other)[0].equal(trained(model)[0]), "a copy has weights of its own"


@pytest.mark.usefixtures("traced")
def test_adapters_added_later_are_compiled_too() -> None:
    model = toy_model()
    model.backbone.compile_layers()
    add_lora(model, LoRAParams(rank=2), 0)
    check(model)
    assert any("lora" in name for name in trained(model)[1])


@pytest.mark.usefixtures("traced")
def test_law_1_is_not_promised() -> None:
    model = toy_model()
    model.backbone.compile_layers()
    assert "compiled layers" in inexact(model)


def test_experts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^model\.compile = true: layers with experts"):
        toy_model(moe=SOFTMAX, num_layers=3).backbone.compile_layers()
