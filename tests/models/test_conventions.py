"""Conventions follow from the spec, for any heads."""

from dataclasses import replace

import pytest
import torch

from tests.toy import toy_model
from unmask.models.conventions import conventions_of
from unmask.models.value_model import ActorCritic, ValueModel


@pytest.mark.parametrize("attention", ["full", "block"])
@pytest.mark.parametrize("is_shifted", [False, True])
def test_conventions_do_not_depend_on_the_heads(attention: str, is_shifted: bool) -> None:
    model = toy_model(attention=attention, is_shifted=is_shifted)
    for other in (model, ValueModel(model.spec), ActorCritic(model)):
        found = conventions_of(other)
        assert torch.equal(found.drawable, model.head.drawable)
        assert found.mask_id == model.spec.mask_id
        assert (found.is_full, found.is_shifted) == (attention == "full", is_shifted)
        assert found.first_is_alone == (is_shifted and attention != "full")


def test_a_model_without_mask_id_is_refused() -> None:
    model = toy_model()
    model.spec = replace(model.spec, mask_id=None)
    with pytest.raises(ValueError, match="mask"):
        conventions_of(model)
