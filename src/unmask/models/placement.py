"""Device and number format of a model from the names in a config, with errors that name the key."""

import os
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any

import torch

DTYPES = ("float32", "bfloat16", "float16", "float64")


def has_triton(device: torch.device) -> bool:
    """Return whether Triton programs run on `device`: a GPU, or any device in Triton's interpreter."""
    can = device.type == "cuda" or os.environ.get("TRITON_INTERPRET") == "1"
    return can and find_spec("triton") is not None


def device_of(device: Any, key: str = "device") -> str:
    """Return the name of a device of this machine.

    Args:
        device: `cpu`, `cuda`, `cuda:1`, a `torch.device`, or `auto` for the GPU if there is one.
        key: name of the setting, for the message.

    Raises:
        ValueError: for a device that this machine does not have.
    """
    name = str(device) if isinstance(device, torch.device) else device
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if num_gpus else "cpu"
    found = ["cpu", *(["cuda"] if num_gpus else []), *(f"cuda:{i}" for i in range(num_gpus))]
    if name not in found:
        raise ValueError(f"{key} = {name}: torch finds {', '.join(found)} here, or say auto")
    return name


def dtype_of(dtype: Any, device: str, key: str = "dtype") -> torch.dtype:
    """Return a number format; `auto` is float32 on CPU and bfloat16 on CUDA.

    Raises:
        ValueError: for anything but a floating-point format that a model runs in.
    """
    if dtype == "auto":
        return torch.bfloat16 if device.startswith("cuda") else torch.float32
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise ValueError(
            f"{key} = {dtype!r}: must be auto, {', '.join(DTYPES)}, or the same of torch"
        )
    return getattr(torch, name)


def as_current(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which a GPU is the current one; for the CPU, one without effect.

    Triton's kernels, CUDA graphs and events use the current device, whatever the device of their tensors.
    """
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
