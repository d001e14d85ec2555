"""The linear projection of a model; how it multiplies is chosen once per model.

`torch.nn.functional.linear` as a rule. Where a model is made batch-invariant (`models/batch_invariant.py`),
a product in which the bits of a row depend on that row alone.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

# From rows `(T, in)`, a weight `(out, in)` and a bias `(out,)` or `None` to `(T, out)`.
Multiply = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class Linear(nn.Linear):
    """A projection.

    Attributes:
        multiply: computes the product.
    """

    multiply: Multiply

    def __init__(self, width_in: int, width_out: int, bias: bool = False) -> None:
        """Allocate the weight, and the bias where there is one."""
        super().__init__(width_in, width_out, bias=bias)
        self.multiply = F.linear

    def forward(self, input: Tensor) -> Tensor:  # the name that `nn.Linear` has for it
        """Project `input (T, in)`."""
        return self.multiply(input, self.weight, self.bias)
