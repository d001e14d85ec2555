"""What holds for the Triton program of products, on a GPU or in Triton's interpreter.

Not collected: `test_linear_programs.py` runs this file in a process of its own (see `kernel_laws.py`).
"""

import os

import pytest
import torch
from torch import Tensor

from unmask.models.batch_invariant import linear_by_program, multiply_rows, shape_of

DEVICE = torch.device("cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda")
FP32, BF16 = torch.float32, torch.bfloat16
# The interpreter cuts bf16 off where a GPU rounds: one unit in the last of 8 bits.
TOLERANCE = {FP32: 1e-5, BF16: 8e-3}
# Widths below a tile, ragged, whole tiles; and one wide enough for the large tile.
SHAPES = [
    *(
        (width, out, dtype)
        for width, out in ((8, 5), (40, 70), (128, 192))
        for dtype in (FP32, BF16)
    ),
    (72, 4100, BF16),
]


def draw(*shape: int, dtype: torch.dtype = FP32) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator).to(DEVICE, dtype)


@pytest.mark.parametrize(
    ("width", "out", "dtype", "has_bias"), [(*shape, bool(n % 2)) for n, shape in enumerate(SHAPES)]
)
def test_it_multiplies(width: int, out: int, dtype: torch.dtype, has_bias: bool) -> None:
    x, weight = draw(83, width, dtype=dtype), draw(out, width, dtype=dtype)
    bias = draw(out, dtype=dtype) if has_bias else None
    found = multiply_rows(x, weight, bias)
    assert found.dtype == dtype
    wide = x.double() @ weight.double().T + (bias.double() if bias is not None else 0)
    scale = (x.double().abs() @ weight.double().abs().T).clamp(min=1)
    assert float(((found.double() - wide).abs() / scale).max()) < TOLERANCE[dtype]


@pytest.mark.parametrize(("width", "out", "dtype"), SHAPES[::2])  # each width
def test_a_row_has_the_same_bits_in_any_company(width: int, out: int, dtype: torch.dtype) -> None:
    """Alone, in any number of rows, and at any place of a tile."""
    x, weight = draw(150, width, dtype=dtype), draw(out, width, dtype=dtype)
    whole = multiply_rows(x, weight)
    for rows, start in ((1, 7), (16, 134), (65, 85), (129, 7)):
        some = multiply_rows(x[start : start + rows], weight)
        assert torch.equal(some, whole[start : start + rows]), (rows, start)
    mixed = torch.randperm(150, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    assert torch.equal(multiply_rows(x[mixed], weight), whole[mixed])


def test_a_row_of_nan_stays_alone() -> None:
    x, weight = draw(70, 40), draw(70, 40)
    whole = multiply_rows(x, weight)
    x[69] = torch.nan
    found = multiply_rows(x, weight)
    assert torch.equal(found[:69], whole[:69]) and found[69].isnan().all()


def test_no_rows() -> None:
    assert multiply_rows(draw(0, 8), draw(5, 8)).shape == (0, 5)


def test_rows_of_a_larger_tensor() -> None:
    x, weight = draw(20, 80), draw(5, 40)
    assert torch.equal(multiply_rows(x[:, :40], weight), multiply_rows(x[:, :40].clone(), weight))


@pytest.mark.parametrize("has_bias", [False, True])
def test_gradients_are_those_of_the_product(has_bias: bool) -> None:
    inputs = [draw(20, 40), draw(9, 40), *([draw(9)] if has_bias else [])]
    for tensor in inputs:
        tensor.requires_grad_()
    upstream = draw(20, 9)
    expected = torch.autograd.grad(torch.nn.functional.linear(*inputs), inputs, upstream)
    found = torch.autograd.grad(linear_by_program(*inputs), inputs, upstream)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_tile_is_fixed_by_width_and_format() -> None:
    assert shape_of(5, FP32) == shape_of(151936, FP32)
    assert shape_of(1024, BF16).columns < shape_of(151936, BF16).columns
