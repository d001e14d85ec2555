"""A projection multiplies by the product that is chosen for it."""

import torch
from torch import Tensor

from unmask.models.linear import Linear


def test_it_is_the_linear_of_torch_until_another_product_is_chosen() -> None:
    linear, x = Linear(5, 3, bias=True), torch.randn(7, 5)
    expected = torch.nn.functional.linear(x, linear.weight, linear.bias)
    assert torch.equal(linear(x), expected)

    def twice(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return 2 * torch.nn.functional.linear(x, weight, bias)

    linear.multiply = twice
    assert torch.equal(linear(x), 2 * expected)
    assert Linear(5, 3).bias is None
