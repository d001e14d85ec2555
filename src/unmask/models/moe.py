"""A mixture of experts in place of a layer's feed-forward.

A router scores every expert for every token, the best few transform the token, and their outputs are
summed with the router's weights. Scores, weights and the sum are fp32 or wider. Each expert's rows
are padded to whole tiles, so a token's bits do not depend on which other tokens chose its experts.

Two routers are published. *softmax*: probabilities over all experts, renormalised over the chosen
ones or not. *grouped sigmoid* (DeepSeek-AI, "DeepSeek-V3 Technical Report", 2024): experts come in
groups; a trained-by-hand bias enters the choice but not the weights, only the groups with the best
two experts are considered, and the chosen sigmoids are renormalised and scaled.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.models.attention import round_up
from unmask.models.feed_forward import FeedForward
from unmask.models.heads import widen
from unmask.models.row_tile import products, row_tile
from unmask.models.spec import MoESpec

# Keeps the weights finite when every chosen sigmoid underflows.
TINY = 1e-20


class Router(nn.Module):
    """Which experts a token is sent to, and with what weights."""

    expert_bias: Tensor

    def __init__(self, width: int, spec: MoESpec) -> None:
        """Build the scores' projection, and the bias where the family has one."""
        super().__init__()
        self.spec = spec
        self.weight = nn.Parameter(torch.empty(spec.num_experts, width))
        if spec.has_bias:
            # Kept in the number format of the file: it is a count of sorts, not a weight.
            self.register_buffer("expert_bias", torch.zeros(spec.num_experts))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the chosen experts of `x (T, D)` and their weights, `(T, active)` each."""
        logits = F.linear(widen(x), widen(self.weight))
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


class StackedLinear(nn.Module):
    """The same projection of every expert: `weight (experts, out, in)`."""

    def __init__(self, num_experts: int, width_in: int, width_out: int) -> None:
        """Hold the stacked weights."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_experts, width_out, width_in))


class Experts(nn.Module):
    """The gated feed-forwards of all experts, stacked."""

    def __init__(self, width: int, spec: MoESpec) -> None:
        """Build the three stacked projections."""
        super().__init__()
        self.gate = StackedLinear(spec.num_experts, width, spec.width)
        self.up = StackedLinear(spec.num_experts, width, spec.width)
        self.down = StackedLinear(spec.num_experts, spec.width, width)

    def forward(self, x: Tensor, counts: Tensor) -> Tensor:
        """Transform rows `x (rows, D)` sorted by expert, `counts (experts,)` of them each."""
        sizes, tile = counts.tolist(), row_tile(products(self))
        return torch.cat(
            [self._one(i, rows, tile) for i, rows in enumerate(x.split(sizes)) if len(rows)]
        )

    def _one(self, expert: int, rows: Tensor, tile: int) -> Tensor:
        padded = F.pad(rows, (0, 0, 0, round_up(len(rows), tile) - len(rows)))
        gate = F.linear(padded, self.gate.weight[expert])
        up = F.linear(padded, self.up.weight[expert])
        return F.linear(F.silu(gate) * up, self.down.weight[expert])[: len(rows)]


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
        by_expert = chosen.flatten().argsort(stable=True)
        counts = chosen.flatten().bincount(minlength=self.experts.gate.weight.shape[0])
        outputs = self.experts(x.index_select(0, by_expert // self.num_active), counts)
        outputs = outputs.index_select(0, by_expert.argsort()).unflatten(0, chosen.shape)
        mixed = (widen(outputs) * weights[..., None]).sum(1).to(x.dtype)
        return mixed if self.shared is None else mixed + self.shared(x)
