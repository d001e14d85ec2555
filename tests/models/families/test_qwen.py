"""The fields that families derived from Qwen's code share, where no family's own test covers them."""

from typing import Any

import pytest

from tests.models.toy import toy_spec
from unmask.models.families.qwen import (
    read_fields,
    rotary_factor,
    rotary_width,
    write_fields,
    write_window,
)


def config(**changes: Any) -> dict[str, Any]:
    return {**write_fields(toy_spec()), **changes}


def test_a_head_width_that_is_not_stated_is_a_share_of_the_width() -> None:
    assert read_fields(config())["head_width"] == 8
    assert read_fields(config(head_dim=16))["head_width"] == 16
    assert read_fields(config(head_dim=None))["head_width"] == 8


@pytest.mark.parametrize(
    "key", ["hidden_size", "num_key_value_heads", "rms_norm_eps", "vocab_size"]
)
def test_numbers_have_no_default(key: str) -> None:
    stated = config()
    del stated[key]
    with pytest.raises(KeyError, match=key):
        read_fields(stated)


def test_a_window_that_is_used_is_refused() -> None:
    assert read_fields(config(**write_window(toy_spec())))
    assert read_fields(config(sliding_window=4096))
    with pytest.raises(ValueError, match="use_sliding_window = True"):
        read_fields(config(use_sliding_window=True))


@pytest.mark.parametrize(("factor", "width"), [(1, None), (1.0, None), (0.5, 8), (0.25, 4)])
def test_the_rotated_part_of_a_head(factor: float, width: int | None) -> None:
    assert rotary_width({"partial_rotary_factor": factor}, 16) == width
    assert rotary_factor(toy_spec(rotary_width=width)) == factor


def test_a_config_cannot_state_rows_without_tokens() -> None:
    with pytest.raises(AssertionError):
        write_fields(toy_spec(num_drawable=39))
