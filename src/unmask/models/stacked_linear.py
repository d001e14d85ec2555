"""A linear projection per expert, on rows that are grouped by expert.

`torch.nn.functional.grouped_mm` multiplies all groups at once. It takes no fp64 and no widths that are not
multiples of 16 bytes; those run in a loop over groups, which needs their ends on the host.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StackedLinear(nn.Module):
    """The same projection of every expert: `weight (experts, out, in)`."""

    def __init__(self, num_experts: int, width_in: int, width_out: int) -> None:
        """Allocate the stacked weights."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_experts, width_out, width_in))

    def forward(self, x: Tensor, ends: Tensor) -> Tensor:
        """Project grouped rows; see `project_groups`."""
        return project_groups(x, self.weight, ends)


def project_groups(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """Multiply each group of rows by the matrix of its expert.

    Args:
        x: `(rows, in)`, grouped by expert.
        weight: `(experts, out, in)`.
        ends: `(experts,)` int32, the row behind each group.

    Returns:
        `(rows, out)`; the values of rows behind the last group are undefined.
    """
    if is_groupable(weight):
        return F.grouped_mm(x, weight.transpose(1, 2), offs=ends)
    return project_groups_in_loop(x, weight, ends)


def project_groups_in_loop(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """Multiply each group by a product of its own: for any width and number format."""
    stops = ends.tolist()
    sizes = [stop - start for start, stop in zip([0, *stops], [*stops, len(x)], strict=True)]
    *groups, spare = x.split(sizes)
    # `unbind`, not an index per expert, whose gradients would be as large as the whole stack each.
    products = [
        F.linear(rows, matrix) for rows, matrix in zip(groups, weight.unbind(), strict=True)
    ]
    return torch.cat([*products, spare.new_zeros(len(spare), weight.shape[1])])


def is_groupable(weight: Tensor) -> bool:
    """Return whether `grouped_mm` accepts `weight (experts, out, in)`: no fp64, rows and columns of whole 16 bytes."""
    is_aligned = all(width * weight.itemsize % 16 == 0 for width in weight.shape[1:])
    return is_aligned and weight.dtype != torch.float64


def waits_for_router(model: nn.Module) -> bool:
    """Return whether experts of a model on CUDA make the host wait for the router's choice.

    torch 2.13 has a grouped kernel for bf16 on compute capability 9 and 10; anything else it runs as a
    loop over groups, whose ends it copies to the host.
    """
    stacks = [p for p in model.parameters() if p.dim() == 3]
    return any(
        p.dtype != torch.bfloat16
        or not is_groupable(p)
        or torch.cuda.get_device_capability(p.device)[0] not in (9, 10)
        for p in stacks
    )
