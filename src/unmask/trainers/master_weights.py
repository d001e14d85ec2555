"""Master weights: the fp32 weights that the optimizer changes.

A module in fp32 or fp64 is its own master. A bf16 module would round most updates away (a step of
1e-6 is below half a unit in the last place of any weight above 0.004), so the optimizer keeps an
fp32 copy of every weight, sums the gradients of a batch in fp32, and writes the module in place after
each step.

Masters in host memory (`optimizer.offload`) are copies whatever the number format: gradients are added to them
there after each pass, the optimizer, whose moments stand where its weights do, steps there, and the weights go
back. On a CPU that changes no bit.
"""

import torch
from torch import Tensor, nn

from unmask.distributed.sharding import local


def is_wide(dtype: torch.dtype) -> bool:
    """Return whether a number format is exact enough to need no master, and no allowance for rounding."""
    return dtype in (torch.float32, torch.float64)


class MasterWeights:
    """The weights the optimizer changes, and copies between them and the module.

    Attributes:
        named: name and master of every trainable parameter.
        copies: of them, those that hold more than the parameter, which is too narrow to be its own master.
    """

    def __init__(self, model: nn.Module, is_on_host: bool = False) -> None:
        """Copy the parameters that are too narrow, and share the others.

        Args:
            model: under training; its parameters may be sharded.
            is_on_host: copy all of them, to host memory.
        """
        self._pairs: list[tuple[nn.Parameter, Tensor]] = []
        self.named: list[tuple[str, Tensor]] = []
        self.copies: list[tuple[str, Tensor]] = []
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            is_narrow = not is_wide(parameter.dtype)
            if not (is_narrow or is_on_host):
                self.named.append((name, parameter))
                continue
            place = "cpu" if is_on_host else parameter.device
            dtype = torch.float32 if is_narrow else parameter.dtype
            master = parameter.detach().to(place, dtype, copy=True).requires_grad_()
            self.named.append((name, master))
            self._pairs.append((parameter, master))
            if is_narrow:
                self.copies.append((name, master))

    def take_gradients(self) -> None:
        """Add the module's gradients to the masters', and clear them there."""
        for parameter, master in self._pairs:
            if parameter.grad is None:
                continue
            if master.grad is None:
                master.grad = torch.zeros_like(master)
            master.grad += parameter.grad.to(master.device)
            parameter.grad = None

    @property
    def num_bytes(self) -> int:
        """Bytes of the copies of this rank and of their gradients."""
        return sum(2 * local(master).nbytes for _, master in self._pairs)

    @torch.no_grad()
    def write(self) -> None:
        """Copy the masters into the module, rounded to its format."""
        for parameter, master in self._pairs:
            parameter.copy_(master.to(parameter.device))
