"""A mixture of experts in place of a layer's feed-forward.

A router scores every expert for every token, the best few transform the token, and their outputs are
summed with the router's weights. Scores, weights and the sum are fp32 or wider.

The rows of all experts lie in one tensor, grouped by expert, each group padded to whole row tiles so that
a token's bits do not depend on which other tokens chose its experts (`row_tile.py`). The number of rows is
a bound that depends on shapes alone, so the host never waits for the router's choice:

    rows   | expert 0, its padding | expert 1, its padding | ... | spare, read by no product |
    ends                           ^                       ^ ...

Two routers are published. *softmax*: probabilities over all experts, renormalised over the chosen
ones or not. *grouped sigmoid* (DeepSeek-AI, "DeepSeek-V3 Technical Report", 2024): experts come in
groups; a bias set without gradients enters the choice but not the weights, only the groups with the best
two experts are considered, and the chosen sigmoids are renormalised and scaled.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.models.attention import round_up
from unmask.models.feed_forward import FeedForward
from unmask.models.heads import widen
from unmask.models.linear import Multiply
from unmask.models.row_tile import products, row_tile
from unmask.models.spec import MoESpec
from unmask.models.stacked_linear import StackedLinear

# Keeps the weights finite when every chosen sigmoid underflows.
TINY = 1e-20


class Router(nn.Module):
    """The choice of experts for each token, and their weights."""

    expert_bias: Tensor
    multiply: Multiply

    def __init__(self, width: int, spec: MoESpec) -> None:
        """Build the projection to scores, and the bias where the family has one."""
        super().__init__()
        self.spec = spec
        self.weight = nn.Parameter(torch.empty(spec.num_experts, width))
        self.multiply = F.linear
        if spec.has_bias:
            # Keeps the number format of the file: it accumulates load counts and is not a weight.
            self.register_buffer("expert_bias", torch.zeros(spec.num_experts))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the chosen experts of `x (T, D)` and their weights, `(T, active)` each."""
        logits = self.multiply(widen(x), widen(self.weight), None)
        score = grouped_sigmoid if self.spec.router == "grouped_sigmoid" else softmax
        bias = widen(self.expert_bias) if self.spec.has_bias else torch.zeros_like(logits[:1])
        chosen, weights = score(logits, bias, self.spec)
        if self.spec.renormalises:
            weights = weights / (weights.sum(-1, keepdim=True) + TINY)
        return chosen, weights * self.spec.scale


def softmax(logits: Tensor, bias: Tensor, spec: MoESpec) -> tuple[Tensor, Tensor]:
    """Choose by probability plus bias, and weight by the same."""
    weights, chosen = (logits.softmax(-1) + bias).topk(spec.num_active)
    return chosen, weights


def grouped_sigmoid(logits: Tensor, bias: Tensor, spec: MoESpec) -> tuple[Tensor, Tensor]:
    """Choose by sigmoid plus bias within the best groups, and weight by the sigmoid alone."""
    scores = logits.sigmoid()
    grouped = (scores + bias).unflatten(-1, (spec.num_groups, -1))  # (T, groups, experts of one)
    best = grouped.topk(2, dim=-1).values.sum(-1).topk(spec.num_active_groups).indices
    is_kept = torch.zeros_like(grouped[..., 0], dtype=torch.bool).scatter(1, best, True)
    chosen = grouped.masked_fill(~is_kept[..., None], -torch.inf).flatten(1).topk(spec.num_active)
    return chosen.indices, scores.gather(1, chosen.indices)


class Experts(nn.Module):
    """The gated feed-forwards of all experts of a layer."""

    def __init__(self, width: int, spec: MoESpec) -> None:
        """Build the three stacked projections."""
        super().__init__()
        self.gate = StackedLinear(spec.num_experts, width, spec.width)
        self.up = StackedLinear(spec.num_experts, width, spec.width)
        self.down = StackedLinear(spec.num_experts, spec.width, width)

    def forward(self, x: Tensor, ends: Tensor) -> Tensor:
        """Transform grouped rows `x (rows, D)`; see `project_groups`."""
        return self.down(F.silu(self.gate(x, ends)) * self.up(x, ends), ends)


def group_rows(
    chosen: Tensor, num_experts: int, tile: int, fills_all: bool = False
) -> tuple[Tensor, Tensor, int]:
    """Assign every choice of an expert a row, grouped by expert in groups of whole tiles.

    Args:
        chosen: `(T, active)` experts of each token.
        num_experts: of the layer.
        tile: rows that a group is padded to a multiple of.
        fills_all: give a tile of padding to experts that no token chose.

    Returns:
        The row of each choice `(T * active,)`, the row behind each group `(experts,)` int32, and how many
        rows there are: a bound that depends on the shape of `chosen` alone.
    """
    expert = chosen.flatten()
    # Not `bincount`, which on CUDA waits for the device to learn the largest value.
    counts = torch.zeros(num_experts, dtype=torch.long, device=chosen.device)
    counts = counts.scatter_add(0, expert, torch.ones_like(expert))
    padded = (counts.clamp(min=int(fills_all)) + tile - 1) // tile * tile
    ends = padded.cumsum(0)
    rank = expert.argsort(stable=True).argsort()  # position of a choice among all, sorted by expert
    # A group starts later than its first choice's rank by the padding of the groups before it.
    row = rank + ((ends - padded) - (counts.cumsum(0) - counts))[expert]
    # Groups that can have rows, and so padding; a group of padding alone takes one row more.
    num_filled = num_experts if fills_all else min(num_experts, len(expert))
    num_rows = len(expert) + num_filled * (tile - 1) + num_experts * fills_all
    return row, ends.int(), round_up(num_rows, tile)


class MixtureOfExperts(nn.Module):
    """Router, experts, and the feed-forward that every token passes, if there is one."""

    def __init__(self, width: int, spec: MoESpec) -> None:
        """Build the parts."""
        super().__init__()
        self.num_active = spec.num_active
        self.router = Router(width, spec)
        self.experts = Experts(width, spec)
        self.shared = FeedForward(width, spec.shared_width) if spec.shared_width else None

    def forward(self, x: Tensor) -> Tensor:
        """Transform every token of `x (T, D)` by its own experts."""
        chosen, weights = self.router(x)
        tile = row_tile(products(self.experts))
        # In training no group is empty: on some GPUs (compute capability 10, torch 2.13) the gradient of an
        # expert without rows is memory that was never written (pytorch issue 172439).
        num_experts, is_trained = len(self.experts.gate.weight), torch.is_grad_enabled()
        row, ends, num_rows = group_rows(chosen, num_experts, tile, fills_all=is_trained)
        copies = x[:, None].expand(-1, self.num_active, -1).flatten(0, 1)  # (T * active, D)
        grouped = x.new_zeros(num_rows, x.shape[1]).index_copy(0, row, copies)
        outputs = self.experts(grouped, ends).index_select(0, row).unflatten(0, chosen.shape)
        mixed = (widen(outputs) * weights[..., None]).sum(1).to(x.dtype)
        return mixed if self.shared is None else mixed + self.shared(x)
