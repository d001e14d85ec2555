"""Products as another processor makes them: a replacement for `F.linear` with separate trials."""

from collections.abc import Callable
from functools import cache

import pytest
import torch.nn.functional as F
from torch import Tensor

from unmask.models import row_tile

LINEAR, GROUPED = F.linear, F.grouped_mm


def other_below(rows: int, terms: int = 192) -> Callable[..., Tensor]:
    """Return a product that sums in another order for few rows, as MKL does on a Xeon with AMX below 16."""

    def multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if len(x) >= rows or x.shape[-1] < terms:
            return LINEAR(x, weight, bias)
        y = LINEAR(x[..., :7], weight[:, :7]) + LINEAR(x[..., 7:], weight[:, 7:])
        return y if bias is None else y + bias

    return multiply


def multiply_by(linear: Callable[..., Tensor], patch: pytest.MonkeyPatch) -> None:
    """Replace `F.linear` until the test ends, and clear the cached trials."""
    patch.setattr(F, "linear", linear)
    patch.setattr(row_tile, "tried_tile", cache(row_tile.tried_tile.__wrapped__))
