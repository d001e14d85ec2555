"""The kernel's backend asks for a CUDA device; the kernel itself is tested in `tests/engine/kernels`."""

from dataclasses import replace

import pytest
import torch

from tests.toy import SPEC
from unmask.engine.attention import Shapes
from unmask.engine.attention_backends.kernel import BACKEND, rows_per_tile_of

CPU = torch.device("cpu")


def test_without_a_cuda_device_the_obstacle_is_named() -> None:
    assert "a CUDA device and triton, not cpu" in BACKEND.obstacle(Shapes(SPEC, torch.float32, CPU))


def test_number_formats_without_a_kernel_are_an_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unmask.engine.attention_backends.kernel.has_kernel", lambda device: True)
    assert "at most 32 bits" in BACKEND.obstacle(Shapes(SPEC, torch.float64, CPU))
    assert not BACKEND.obstacle(Shapes(SPEC, torch.bfloat16, CPU))


def test_a_tile_holds_two_blocks() -> None:
    spec = replace(SPEC, block_size=4, num_heads=8, num_kv_heads=2)
    assert rows_per_tile_of(spec) == 8
