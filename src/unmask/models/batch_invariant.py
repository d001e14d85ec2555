"""Batch invariance: the bits of a row depend on that row alone, not on the other rows of a pass.

Engine and learner run the same modules on different rows. A library chooses the kernel of a product by the
number of rows, and kernels sum in different orders, so the two differ in the last bits: in bf16 by
1e-2 of a log-probability. A batch-invariant model computes every row in one order:

- products with weights: on a GPU `linear_by_program`, a Triton program with one tile per pair of
  widths and number format, which never splits a sum (`linear_programs.py`); on CPU rows are padded to whole
  tiles, whose size is measured (`row_tile.py`);
- attention: the learner runs the engine's (`engine/pack_attention.py`);
- norms and softmax: PyTorch's own. On CPU and CUDA they reduce each row in one block, in an order
  that depends on the width alone (`layer_norm_kernel.cu`, `SoftMax.cu`), if every row begins at a
  multiple of 16 bytes: a vocabulary of fp32 logits must be a multiple of 4.

Gradients are those of the same mathematics by the library's kernels: only forward bits must agree.

Horace He and Thinking Machines Lab, "Defeating Nondeterminism in LLM Inference" (2025). Unlike their overrides
of `aten::mm`, which change every product of the process, this is a property of one model.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.models.attention import ROW_TILE
from unmask.models.linear import Linear
from unmask.models.moe import Router
from unmask.models.placement import has_triton
from unmask.models.row_tile import Product, inexact, tile_of
from unmask.models.transformer import Model

# A row of logits begins at a multiple of 16 bytes.
ALIGNED_LOGITS = 4
# From this output width on there are tiles enough for a GPU in large ones.
WIDE = 4096


class TileShape(NamedTuple):
    """The tile of a product: rows, columns and terms of one step of a sum; warps and stages of the pipeline."""

    rows: int
    columns: int
    terms: int
    num_warps: int
    num_stages: int


def make_batch_invariant(model: Model) -> None:
    """Make a model compute every row in one order, in place; adapters added later do so too.

    Raises:
        ValueError: naming what has no such order here.
    """
    if reason := obstacle(model):
        raise ValueError(f"model.batch_invariant = true: {reason}")
    multiply = linear_by_program if has_triton(model.device) else linear_in_tiles
    for module in model.modules():
        if isinstance(module, Linear | Router):
            module.multiply = multiply
    model.is_batch_invariant = True


def obstacle(model: Model) -> str | None:
    """Return why a model cannot be made batch-invariant; `None` if it can."""
    if not has_triton(model.device):
        if model.device.type != "cpu":
            return f"needs triton on {model.device}"
        parts = inexact(model)
        return (
            f"this processor has no tile of rows that keeps bits in {', '.join(parts)}"
            if parts
            else None
        )
    if model.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"the program multiplies float32, bfloat16 and float16, not {model.dtype}"
    if model.spec.moe is not None:
        return "experts run in a grouped product whose order depends on the number of rows"
    if model.spec.vocab_size % ALIGNED_LOGITS:
        return f"a vocabulary of {model.spec.vocab_size} is no multiple of {ALIGNED_LOGITS}"
    return None


def linear_in_tiles(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return `F.linear`, computed on whole tiles of rows (`row_tile.py`)."""
    out, width = weight.shape
    tile = tile_of(Product(width, out, bias is not None, weight.dtype)) or ROW_TILE
    missing = -len(x) % tile
    if not missing:
        return F.linear(x, weight, bias)
    return F.linear(F.pad(x, (0, 0, 0, missing)), weight, bias)[: len(x)]


def linear_by_program(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return `F.linear`, computed by the Triton program; differentiable."""
    return _ProgramProduct.apply(x, weight, bias)


class _ProgramProduct(torch.autograd.Function):
    """The program forward, the library's products backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return multiply_rows(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            gradient @ weight if needs_x else None,
            gradient.T @ x if needs_weight else None,
            gradient.sum(0) if needs_bias else None,
        )


def multiply_rows(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Run the program.

    Args:
        x: `(T, in)`.
        weight: `(out, in)` in the same number format, contiguous.
        bias: `(out,)`.

    Returns:
        `(T, out)`.
    """
    (num_rows, width), out = x.shape, weight.shape[0]
    assert x.dtype == weight.dtype and weight.is_contiguous(), (x.dtype, weight.dtype)
    product = x.new_empty(num_rows, out)
    shape = shape_of(out, x.dtype)
    num_tiles = -(-num_rows // shape.rows) * -(-out // shape.columns)
    if num_tiles:
        programs = _programs()
        programs.multiply_tile[num_tiles,](
            *(x.contiguous(), weight, bias if bias is not None else weight, product, num_rows),
            WIDTH_IN=width,
            WIDTH_OUT=out,
            ROWS=shape.rows,
            COLUMNS=shape.columns,
            TERMS=shape.terms,
            NEIGHBOURS=8,
            HAS_BIAS=bias is not None,
            WIDENS=programs.widens(x.dtype),
            num_warps=shape.num_warps,
            num_stages=shape.num_stages,
        )
    return product


def _programs() -> Any:
    """Import the program, and triton with it."""
    from unmask.models import linear_programs

    return linear_programs


def shape_of(width_out: int, dtype: torch.dtype) -> TileShape:
    """Return the tile of a product with `width_out` columns.

    It is fixed, whatever the number of rows: another tile could sum in another order. Narrow outputs take
    small tiles, because a pass of few rows would keep few multiprocessors busy with large ones.
    """
    if dtype == torch.float32:
        return TileShape(64, 64, 32, num_warps=4, num_stages=3)
    if width_out < WIDE:
        return TileShape(64, 64, 64, num_warps=4, num_stages=4)
    return TileShape(128, 128, 64, num_warps=8, num_stages=4)
