"""Devices and number formats by the names that users write."""

from typing import Any

import pytest
import torch

from unmask.models.placement import as_current, device_of, dtype_of


@pytest.mark.parametrize("dtype", [torch.bfloat16, "bfloat16", "torch.bfloat16"])
def test_a_format_is_found_by_object_and_name(dtype: Any) -> None:
    assert dtype_of(dtype, "cpu") == torch.bfloat16


def test_the_format_left_open_follows_from_the_device() -> None:
    assert dtype_of("auto", "cpu") == torch.float32
    assert dtype_of("auto", "cuda:1") == torch.bfloat16


@pytest.mark.parametrize("dtype", ["bf16", "int8", torch.int8, None, 16, []])
def test_other_formats_are_refused(dtype: Any) -> None:
    with pytest.raises(ValueError, match=r"model\.dtype = .*: must be auto, float32, bfloat16"):
        dtype_of(dtype, "cpu", "model.dtype")


def test_devices_are_those_of_this_machine() -> None:
    assert device_of(torch.device("cpu")) == device_of("cpu") == "cpu"
    assert device_of("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    for device in ("gpu", "cuda:99", torch.device("cuda", 99), None, 0, "mps"):
        with pytest.raises(ValueError, match=r"device = .*: torch finds cpu"):
            device_of(device)


def test_a_gpu_is_made_the_current_one_by_its_index() -> None:
    context = as_current(torch.device("cuda:1"))
    assert isinstance(context, torch.cuda.device) and context.idx == 1
    with as_current(torch.device("cpu")):
        pass
