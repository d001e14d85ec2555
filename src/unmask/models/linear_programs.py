"""The Triton program behind `batch_invariant`: one tile of a product of rows with a weight.

A row's bits are a function of that row alone, because

1. every tile has one shape, fixed by the widths and the number format (`batch_invariant.shape_of`). The place
   of a row in its tile picks the lanes that compute it, not the order of its sums;
2. one program sums all terms of a number, from the first to the last, in steps of `TERMS`. No sum is
   split between programs, however few rows there are;
3. the number of rows is not compiled in: `do_not_specialize` keeps Triton from building other code for
   multiples of 16.

fp32 is multiplied in fp32 (`ieee`), never in TF32. Importing this module imports triton. It also works under
`TRITON_INTERPRET=1`, which has to be set before triton is imported for the first time.
"""

# triton is no dependency on CPU, and its language has no types that a checker could follow.
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false
# ruff: noqa: PLR0913 - a program takes its tensors one by one; `fmt: skip` keeps them from a line each

import torch
import triton
import triton.language as tl


def widens(dtype: torch.dtype) -> bool:
    """Return whether products need fp32 operands: the interpreter would multiply the codes of bfloat16."""
    return bool(triton.knobs.runtime.interpret) and dtype == torch.bfloat16


@triton.jit(do_not_specialize=["num_rows"])
def multiply_tile(
    x, weight, bias, out, num_rows,
    WIDTH_IN: tl.constexpr, WIDTH_OUT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    TERMS: tl.constexpr, NEIGHBOURS: tl.constexpr, HAS_BIAS: tl.constexpr, WIDENS: tl.constexpr,
):  # fmt: skip
    """Compute one tile of `out (T, out) = x (T, in) weight (out, in)^T + bias (out,)`; grid (tiles,).

    Tiles are visited in bands of `NEIGHBOURS` tiles of rows, column by column, so that programs that run
    at the same time read the same rows and weights.
    """
    num_row_tiles = tl.cdiv(num_rows, ROWS)
    num_column_tiles = (WIDTH_OUT + COLUMNS - 1) // COLUMNS
    per_band = NEIGHBOURS * num_column_tiles
    band, in_band = tl.program_id(0) // per_band, tl.program_id(0) % per_band
    height = tl.minimum(num_row_tiles - band * NEIGHBOURS, NEIGHBOURS)
    row = (band * NEIGHBOURS + in_band % height) * ROWS + tl.arange(0, ROWS)
    column = (in_band // height) * COLUMNS + tl.arange(0, COLUMNS)
    term = tl.arange(0, TERMS)
    # Rows and columns past the end repeat the last one and are not stored.
    own_row = tl.minimum(row, num_rows - 1).to(tl.int64)
    own_column = tl.minimum(column, WIDTH_OUT - 1).to(tl.int64)
    of_rows = x + own_row[:, None] * WIDTH_IN + term[None, :]
    of_weight = weight + own_column[:, None] * WIDTH_IN + term[None, :]
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, WIDTH_IN, TERMS):
        if WIDTH_IN % TERMS == 0:
            a, b = tl.load(of_rows + start), tl.load(of_weight + start)
        else:
            is_term = (start + term < WIDTH_IN)[None, :]
            a = tl.load(of_rows + start, mask=is_term, other=0.0)
            b = tl.load(of_weight + start, mask=is_term, other=0.0)
        if WIDENS:
            a, b = a.to(tl.float32), b.to(tl.float32)
        total = tl.dot(a, tl.trans(b), total, input_precision="ieee")
    if HAS_BIAS:
        total += tl.load(bias + own_column).to(tl.float32)[None, :]
    is_number = (row < num_rows)[:, None] & (column < WIDTH_OUT)[None, :]
    place = own_row[:, None] * WIDTH_OUT + column[None, :]
    tl.store(out + place, total.to(out.dtype.element_ty), mask=is_number)
