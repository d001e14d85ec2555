"""Arguments of vLLM: accepted without effect, or refused with what to give instead."""

from typing import Any

import pytest

from unmask.sampling_params import SamplingParams
from unmask.vllm_names import (
    CHATTING,
    LOADING,
    SAMPLING,
    WRITING,
    Rows,
    is_without_effect,
    nearest,
    sampling_fields,
)

FIELDS = SamplingParams.__dataclass_fields__


@pytest.mark.parametrize("rows", [SAMPLING, LOADING, WRITING, CHATTING])
def test_every_row_accepts_its_values_and_has_a_way_for_the_others(rows: Rows) -> None:
    for name, (accepted, instead) in rows.items():
        assert all(is_without_effect(name, value, rows) for value in (None, *accepted))
        assert instead or set(accepted) == {True, False}, name
        with pytest.raises(ValueError, match=f"^call: {name} = 'other'"):
            is_without_effect(name, "other", rows, "call: ")
    assert not is_without_effect("no_such_name", None, rows)


def test_no_row_hides_a_field() -> None:
    assert not SAMPLING.keys() & FIELDS.keys() and "ignore_eos" not in FIELDS


@pytest.mark.parametrize(
    ("name", "meant"),
    [("max_new_tokens", "max_tokens"), ("temprature", "temperature"), ("qqq", "")],
)
def test_the_nearest_name_is_found(name: str, meant: str) -> None:
    assert nearest(name, [*FIELDS]) == meant


@pytest.mark.parametrize(
    ("given", "own"),
    [
        ({"n": 2, "repetition_penalty": 1.0}, {"n": 2}),
        ({"stop": None, "logprobs": None}, {}),
        ({"stop": "x"}, {"stop": "x"}),
        ({"ignore_eos": True}, {"stop_token_ids": ()}),
        ({"ignore_eos": True, "stop_token_ids": None}, {"stop_token_ids": ()}),
        ({"ignore_eos": True, "stop_token_ids": (5,)}, {"stop_token_ids": (5,)}),
        ({"ignore_eos": False}, {}),
    ],
)
def test_arguments_become_fields(given: dict[str, Any], own: dict[str, Any]) -> None:
    assert sampling_fields(given, FIELDS) == own
