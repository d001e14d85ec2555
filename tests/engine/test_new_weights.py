"""Weights are copied by name, and tied names are one parameter."""

import pytest
import torch

from tests.toy import toy_model
from unmask.engine.new_weights import copy_weights


def test_named_parameters_are_overwritten_in_place_and_no_others() -> None:
    model = toy_model(1)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    first, *others = before
    place = dict(model.named_parameters())[first].data_ptr()
    copy_weights(model, [(first, before[first] + 1)])
    after = dict(model.named_parameters())
    assert torch.equal(after[first], before[first] + 1) and after[first].data_ptr() == place
    assert all(torch.equal(after[name], before[name]) for name in others)


def test_a_tied_head_may_be_given_under_either_name() -> None:
    model = toy_model(1, is_tied=True)
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    tied = names - {name for name, _ in model.named_parameters()}
    assert tied
    for name in tied:
        copy_weights(model, [(name, torch.full_like(model.backbone.embedding.weight, 2))])
    assert (model.backbone.embedding.weight == 2).all()


def test_names_and_shapes_of_another_model_are_refused() -> None:
    model = toy_model(1)
    with pytest.raises(ValueError, match="the model has no parameter 'nope'; near it: "):
        copy_weights(model, [("nope", torch.zeros(1))])
    name, _ = next(iter(model.named_parameters()))
    with pytest.raises(ValueError, match=rf"{name} has shape \(3,\)"):
        copy_weights(model, [(name, torch.zeros(3))])
