"""The Bradley-Terry loss as its equation."""

import math

import pytest
import torch

from unmask.objectives.preference import bradley_terry


def test_value_and_gradient_are_those_of_the_equation() -> None:
    chosen = torch.tensor([0.5, -2.0, 1.0], dtype=torch.float64, requires_grad=True)
    rejected = torch.tensor([0.25, 1.0, 1.0], dtype=torch.float64, requires_grad=True)
    found = bradley_terry(chosen, rejected)
    margins = [0.25, -3.0, 0.0]
    assert found.loss.tolist() == pytest.approx([math.log(1 + math.exp(-m)) for m in margins])
    slopes = torch.autograd.grad(found.loss.sum(), [chosen, rejected])
    expected = [-1 / (1 + math.exp(m)) for m in margins]
    assert slopes[0].tolist() == pytest.approx(expected)
    assert slopes[1].tolist() == pytest.approx([-slope for slope in expected])
    assert found.statistics["pair_accuracy"].values.tolist() == [1, 0, 0.5]
    assert found.statistics["margin"].values.tolist() == margins
    assert found.statistics["score"].values.tolist() == pytest.approx([0.375, -0.5, 1.0])
