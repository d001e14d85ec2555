"""Which kernels multiply fp32 matrices on CPU.

torch sends them to MKL, which on AMD processors reaches less than half of what the oneDNN kernels in
the same torch do. One public switch routes them there; with `packed`, the engine multiplies by weights
laid out for them beforehand as well (`prepacked_linear.py`). The switch is named after bf16 because a processor
with matrix units may really round to bf16; where it does, the switch is refused, because numbers come
before speed. The laws of bits hold under either, not across the two.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor, nn

Matmul = Literal["default", "onednn", "packed"]
# Rows oneDNN is asked to choose a layout of packed weights for.
ROWS = 64
SETTING = torch.backends.mkldnn.matmul  # pyright: ignore[reportAttributeAccessIssue]


def use_matmul(kind: Matmul | str) -> None:
    """Choose the kernels of this process.

    Raises:
        ValueError: for a kind that does not exist, or oneDNN where it would lose precision or is
            not there.
    """
    if kind not in get_args(Matmul):
        raise ValueError(f"matmul = {kind!r}: must be one of {', '.join(get_args(Matmul))}")
    if kind == "default":
        SETTING.fp32_precision = "none"
        return
    if not torch.backends.mkldnn.is_available():
        raise ValueError("matmul = 'onednn': this torch was built without it; use 'default'")
    SETTING.fp32_precision = "bf16"
    if not is_single_precision():
        SETTING.fp32_precision = "none"
        raise ValueError(
            "matmul = 'onednn': on this processor it rounds to bfloat16; use 'default'"
        )


@contextmanager
def default_kernels() -> Generator[None]:
    """Multiply by torch's default kernels: of many small products they make three times as many as oneDNN's."""
    kind, SETTING.fp32_precision = SETTING.fp32_precision, "none"
    try:
        yield
    finally:
        SETTING.fp32_precision = kind


def is_single_precision() -> bool:
    """Say whether products keep what bfloat16 would round away."""
    # 1 + 2^-12 needs 13 bits of mantissa, bfloat16 has 8; large enough for the fast kernels.
    x = torch.full((64, 64), 1 + 2.0**-12)
    return bool((x @ torch.eye(64) == x).all())


class PackedLinear(nn.Module):
    """Stands in for a linear layer whose weight it holds a rearranged copy of.

    Attributes:
        in_features: as in the layer.
        out_features: the same.
    """

    packed: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Reorder a copy of `weight (out, in)` as it is now."""
        super().__init__()
        self.out_features, self.in_features = weight.shape
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)
        self.register_buffer("packed", packed, persistent=False)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """Project `x (T, in)`."""
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
