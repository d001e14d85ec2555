"""Sizes of a model: its parameters by place, and what a forward pass keeps for the backward pass.

Parameters are counted on the meta device, without memory. Of activations, everything that autograd saves
is counted term by term, as `models/transformer.py` computes it; a test compares the sum with the tensors
that are saved. `D` is the width, `H` and `Hk` are heads of queries and of keys, `E` is the width of a head, `F`
that of the feed-forward, and a number has `w` bytes. Per token, a dense layer keeps

    norms           input and, on CPU, the normed numbers in fp32 or wider, for both; outputs 2 D
    queries, keys   before their norms, if there are any, and rotated: (H + Hk) E each; values Hk E
    attention       its output twice: as the kernel keeps it, and as rows: 2 H E; the softmax's sums, H
    feed-forward    gate and up, 2 F: its activation and their product are computed again (adapters
                    on `down` keep them)

which is the accounting of Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models"
(2022), for a gated feed-forward without dropout, and without the scores, which no kernel here keeps.
"""

from dataclasses import dataclass
from functools import cache

import torch

from unmask.checkpoints.memory import count_parameters, meta_model
from unmask.configs.lora import LoRAParams
from unmask.configs.model import TrainedParts
from unmask.models.attention import ROW_TILE
from unmask.models.lora import choose_targets, plain_projections
from unmask.models.spec import ModelSpec
from unmask.models.trained_parts import choose_trained
from unmask.models.transformer import Model
from unmask.models.value_model import ValueModel


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of parameters.

    Attributes:
        total: of the model.
        vocabulary: of the embedding, and of a head that is not tied: `V D`.
        root: outside the layers: embedding, final norm, head.
        layer: of the largest layer.
        body: of all layers, those that one token passes.
        experts: of all layers, those of experts, which one token passes a few of.
        matrices: of all layers, those in matrices, which Muon trains.
        tower: of the image tower, if there is one.
    """

    total: int
    vocabulary: int
    root: int
    layer: int
    body: int
    experts: int
    matrices: int
    tower: int = 0


@cache
def sizes_of(spec: ModelSpec) -> Sizes:
    """Count the parameters of a model."""
    model = meta_model(spec)
    total, active = count_parameters(model)
    layers = [sum(p.numel() for p in layer.parameters()) for layer in model.backbone.layers]
    inside = list(model.backbone.layers.named_parameters())
    root = total - sum(layers)
    return Sizes(
        total=total,
        vocabulary=spec.vocab_size * spec.width,
        root=root,
        layer=max(layers),
        body=active - root,
        experts=sum(p.numel() for name, p in inside if ".ffn.experts." in name),
        matrices=sum(p.numel() for _, p in inside if p.dim() == 2),
        tower=sum(p.numel() for name, p in model.named_parameters() if ".vision.tower." in name),
    )


@cache
def trained_parameters(spec: ModelSpec, parts: TrainedParts, is_value: bool = False) -> int:
    """Count the parameters of a policy, or of a value model, that `model.trains` trains.

    Raises:
        ValueError: as `choose_trained`.
    """
    with torch.device("meta"):
        model = ValueModel(spec) if is_value else Model(spec)
    choose_trained(model, parts)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@cache
def adapter_parameters(spec: ModelSpec, lora: LoRAParams) -> int:
    """Count the parameters of LoRA adapters: `r (in + out)` for each projection, and each expert.

    Raises:
        ValueError: naming a target that is no projection of the model.
    """
    model = meta_model(spec)
    found = plain_projections(model)
    count = 0
    for name in choose_targets(model, lora.targets):
        *experts, out, width = found[name].weight.shape
        count += lora.rank * (out + width) * (experts[0] if experts else 1)
    return count


def saved_bytes(
    spec: ModelSpec, layer: int, num_tokens: int, width: int, is_cpu: bool, is_frozen: bool = False
) -> int:
    """Return the bytes that the backward pass of a layer needs; its weights are left out.

    Args:
        spec: of the model.
        layer: index of the layer.
        num_tokens: tokens of the pass.
        width: bytes of a number.
        is_cpu: norms are then composed of several operations, which keep more than a GPU's kernel.
        is_frozen: whether adapters alone are trained: the gradient of a norm's weight is what its normed
            numbers are kept for. The adapters' own narrow rows are left out.
    """
    wide = max(width, 4)
    queries, keys = spec.num_heads * spec.head_width, spec.num_kv_heads * spec.head_width
    heads = spec.num_heads + spec.num_kv_heads

    def norm(numbers: int, count: int) -> int:
        """Return what a norm of `count` rows keeps without its output."""
        return (wide * (1 if is_frozen else 2) if is_cpu else width) * numbers + 4 * count

    per_token = 2 * norm(spec.width, 1) + width * spec.width  # the output of the first
    if spec.has_qk_norm:
        per_token += norm(queries + keys, heads)
    per_token += width * (queries + 2 * keys) + 2 * width * queries + 2 * 4 * spec.num_heads
    moe = spec.moe
    if moe is None or layer not in moe.layers:
        return num_tokens * (per_token + width * (spec.width + 2 * spec.ffn_width))
    # The router reads a wide copy; choices come as rows, and as the weighted sum's wide summands.
    per_token += (wide if width < 4 else width) * spec.width + 4 * moe.num_experts
    per_token += moe.num_active * (spec.width * (width + wide) + 16)
    if moe.shared_width:
        per_token += width * (2 * moe.shared_width + (spec.width if width < 4 else 0))
    rows = num_tokens * moe.num_active + moe.num_experts * ROW_TILE
    return num_tokens * per_token + rows * width * (spec.width + 4 * moe.width)
