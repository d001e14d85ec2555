"""Master weights: the fp32 weights that the optimizer changes.

A module in fp32 or fp64 is its own master. A bf16 module would round most updates away (a step of
1e-6 is below half a unit in the last place of any weight above 0.004), so the optimizer keeps an
fp32 copy of every weight, sums the gradients of a batch in fp32, and writes the module in place after
each step.
"""

import torch
from torch import Tensor, nn


def is_wide(dtype: torch.dtype) -> bool:
    """Return whether a number format is exact enough to need no master, and no allowance for rounding."""
    return dtype in (torch.float32, torch.float64)


class MasterWeights:
    """The weights the optimizer changes, and copies between them and the module.

    Attributes:
        named: name and master of every trainable parameter.
        copies: of them, those of parameters that are too narrow to be their own master.
    """

    def __init__(self, model: nn.Module) -> None:
        """Copy the parameters that are too narrow, and share the others."""
        self._pairs: list[tuple[nn.Parameter, Tensor]] = []
        self.named: list[tuple[str, Tensor]] = []
        self.copies: list[tuple[str, Tensor]] = []
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            if is_wide(parameter.dtype):
                self.named.append((name, parameter))
                continue
            master = parameter.detach().float().requires_grad_()
            self.named.append((name, master))
            self.copies.append((name, master))
            self._pairs.append((parameter, master))

    def take_gradients(self) -> None:
        """Add the module's gradients to the masters', and clear them there."""
        for parameter, master in self._pairs:
            if parameter.grad is None:
                continue
            if master.grad is None:
                master.grad = torch.zeros_like(master)
            master.grad += parameter.grad
            parameter.grad = None

    @torch.no_grad()
    def write(self) -> None:
        """Copy the masters into the module, rounded to its format."""
        for parameter, master in self._pairs:
            parameter.copy_(master)
