"""A section and the record of the same fields accept the same values, and share their sentences."""

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from unmask.configs.engine import EngineConfig
from unmask.configs.lora import LoRAConfig, LoRAParams
from unmask.configs.sampling import SamplingConfig
from unmask.configs.section import Section
from unmask.engine.options import EngineParams
from unmask.sampling_params import SamplingParams

PAIRS: list[tuple[type[Section], type[Any]]] = [
    (SamplingConfig, SamplingParams),
    (LoRAConfig, LoRAParams),
    (EngineConfig, EngineParams),
]
EDGES = [0, 1, 2**16, 2**20, 2**31 - 1, 2**32 - 1, 2**63 - 1]
NUMBERS = (
    st.sampled_from([edge + more for edge in EDGES for more in (-1, 0, 1)])
    | st.sampled_from([1e-9, 1e-6, 9e-7, 0.5, 1.0, 1.5, 1e6, 1.1e6, 2.0**32, 1e300])
    | st.integers()
    | st.floats()
)
WORDS = st.sampled_from(["", "a", "4", "0.5", "dynamic", "even", "raw", "exclusive", "exact"])
SCALARS = NUMBERS | WORDS | st.booleans() | st.none()
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.lists(WORDS, max_size=3)


def accepts(cls: type[Any], name: str, value: Any) -> bool:
    try:
        cls(**{name: value})
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("section", "record", "name"),
    [
        (section, record, field.name)
        for section, record in PAIRS
        for field in fields(record)
        if field.name in section.model_fields
    ],
)
@given(value=VALUES)
def test_a_section_accepts_what_its_record_accepts(
    section: type[Section], record: type[Any], name: str, value: Any
) -> None:
    # The record alone takes a lone string, and vLLM's None.
    is_loose = name == "stop" and (value is None or isinstance(value, str))
    assert is_loose or accepts(section, name, value) == accepts(record, name, value)


@pytest.mark.parametrize(("section", "record"), PAIRS)
def test_an_inherited_field_has_its_default_and_its_sentence(
    section: type[Section], record: type[Any]
) -> None:
    shared = [field for field in fields(record) if field.name in section.model_fields]
    assert shared
    for field in shared:
        found = section.model_fields[field.name]
        assert found.default == field.default
        assert (found.description or "").rstrip().endswith(".")


def test_a_section_with_inherited_fields_is_frozen_and_closed() -> None:
    with pytest.raises(ValidationError):
        LoRAConfig().rank = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="rnak"):
        LoRAConfig.model_validate({"rnak": 3})
