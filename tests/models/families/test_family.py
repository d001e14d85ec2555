"""Which family a config belongs to."""

import pytest

from unmask.models.families import FAMILIES, family_named, family_of
from unmask.models.families.family import token_ids


def test_the_architecture_decides_and_the_model_type_stands_in() -> None:
    assert family_of({"architectures": ["SDARForCausalLM"], "model_type": "x"}).name == "sdar"
    assert family_of({"model_type": "sdar"}).name == "sdar"
    for config in ({"architectures": ["Other"], "model_type": "sdar"}, {"model_type": "llama"}, {}):
        with pytest.raises(ValueError, match="supported: SDARForCausalLM"):
            family_of(config)


def test_every_family_is_found_by_each_of_its_names() -> None:
    for family in FAMILIES:
        assert family_named(family.name) is family
        for architecture in family.architectures:
            assert family_of({"architectures": [architecture]}) is family


def test_token_ids() -> None:
    assert [token_ids(value) for value in (None, 0, [1, 2])] == [(), (0,), (1, 2)]
