"""LoRA: low-rank adapters on the projections of a frozen model.

    y = W x + b + (alpha / r) B A x        A (r, in) random, B (out, r) zero at the start

An adapter replaces a projection (an `nn.Linear`) under its name. `W` keeps its name and its bits, so that
the model with its adapters switched off is a frozen reference at no cost: `adapters_off`. Adapters have
the dtype of the weights; the optimizer keeps fp32 masters of both. There is no dropout. Training and the
engine run adapters unmerged; `merge_lora` rounds `W + (alpha / r) B A` once, for an export.

Experts are stacked in one tensor and cannot be adapted: their names are refused, and `all` means every
other projection. Embedding and head are not adapted.

Where a family stores several projections as one tensor (LLaDA2's queries, keys and values), all or none of
them are adapted, so that one adapter of the stored tensor can represent them (`lora_files`).

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021).
"""

import copy
import math
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.configs.lora import LoRAParams
from unmask.models.families import family_named
from unmask.models.heads import widen
from unmask.models.transformer import Model
from unmask.models.value_model import ValueModel

M = TypeVar("M", bound=nn.Module)


class LoRALinear(nn.Module):
    """A linear projection with an adapter; `weight` and `bias` are those of the projection.

    Attributes:
        alpha: the adapter is scaled by `alpha / rank`.
        is_on: whether the adapter is added.
    """

    bias: Tensor | None

    def __init__(self, linear: nn.Linear, lora_a: Tensor, lora_b: Tensor, alpha: float) -> None:
        """Replace a projection.

        Args:
            linear: the projection.
            lora_a: `(r, in)`.
            lora_b: `(out, r)`.
            alpha: the adapter is scaled by `alpha / rank`.
        """
        super().__init__()
        self.weight = linear.weight
        self.register_parameter("bias", linear.bias)
        self.lora_a = nn.Parameter(lora_a.to(linear.weight))
        self.lora_b = nn.Parameter(lora_b.to(linear.weight))
        self.alpha = alpha
        self.is_on = True

    @property
    def rank(self) -> int:
        """Rank of the adapter."""
        return self.lora_a.shape[0]

    @property
    def scale(self) -> float:
        """Factor of the adapter's output."""
        return self.alpha / self.rank

    def forward(self, x: Tensor) -> Tensor:
        """Project `x (..., in)`."""
        y = F.linear(x, self.weight, self.bias)
        if not self.is_on:
            return y
        return y + self.scale * F.linear(F.linear(x, self.lora_a), self.lora_b)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return the equivalent plain projection, rounded once to the dtype of the weight."""
        out, width = self.weight.shape
        linear = nn.Linear(width, out, bias=self.bias is not None, device="meta")
        change = self.scale * (widen(self.lora_b) @ widen(self.lora_a))
        linear.weight = nn.Parameter((widen(self.weight) + change).to(self.weight.dtype))
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias.detach())
        return linear


def adapters(model: nn.Module) -> dict[str, LoRALinear]:
    """Return the adapted projections by name; empty for a model without adapters."""
    return {name: m for name, m in model.named_modules() if isinstance(m, LoRALinear)}


def add_lora(model: Model | ValueModel, params: LoRAParams, seed: int = 0) -> None:
    """Freeze a model and add adapters to its projections, in place; its outputs do not change.

    Args:
        model: without adapters.
        params: which projections are adapted, and how.
        seed: of the random A, which is uniform as in a new `nn.Linear` (and as in peft).

    Raises:
        ValueError: a target is not a projection, cannot be adapted, or is only a part of a tensor that
            the family stores as one.
    """
    found = plain_projections(model)
    chosen = choose_targets(model, params.targets)
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    for name in chosen:
        out, width = found[name].weight.shape
        drawn = torch.rand(params.rank, width, generator=generator)
        lora_a = (2 * drawn - 1) / math.sqrt(width)
        lora_b = torch.zeros(out, params.rank)
        model.set_submodule(name, LoRALinear(found[name], lora_a, lora_b, params.alpha))


def choose_targets(model: Model | ValueModel, targets: Sequence[str]) -> list[str]:
    """Return the names of the projections that the targets match, in the model's order.

    Raises:
        ValueError: as `add_lora`.
    """
    names = list(projections(model))
    wanted: set[str] = set()
    for target in targets:
        meant = {name for name in names if _is_meant(target, name)}
        if not meant:
            raise ValueError(f"lora.targets: {target!r} {_refusal(model, target)}")
        wanted |= meant
    for stored, parts in stored_projections(model).items():
        missing = [_within(part) for part in parts if part not in wanted]
        if missing and len(missing) < len(parts):
            raise ValueError(
                f"lora.targets: {model.spec.family} stores {stored} as one tensor: adapt all of "
                f"{', '.join(_within(part) for part in parts)}, or none; "
                f"{' and '.join(missing)} is missing"
            )
    return [name for name in names if name in wanted]


@contextmanager
def adapters_off(model: Model) -> Generator[Model, None, None]:
    """Switch the adapters of a model off: it computes as before `add_lora`, a frozen reference policy.

    For scoring without gradients. A backward pass must run inside the context of its forward pass. CUDA
    graphs that an engine has captured keep the adapters on.

    Raises:
        ValueError: the model has no adapters, and so would be its own reference.
    """
    found = adapters(model).values()
    if not found:
        raise ValueError("the model has no adapters to switch off: call add_lora first")
    before = [adapter.is_on for adapter in found]
    try:
        for adapter in found:
            adapter.is_on = False
        yield model
    finally:
        for adapter, is_on in zip(found, before, strict=True):
            adapter.is_on = is_on


def merge_lora(model: M) -> M:
    """Return an equivalent model without adapters, for an export.

    The model itself is not changed. Weights that are not adapted are shared with it, not copied: clone
    them before training the result. A model without adapters is returned itself.
    """
    if not adapters(model):
        return model
    shared: dict[int, Any] = {id(p): nn.Parameter(p.detach()) for p in model.parameters()}
    shared |= {id(buffer): buffer for buffer in model.buffers()}
    merged = copy.deepcopy(model, shared)
    for name, adapter in adapters(merged).items():
        merged.set_submodule(name, adapter.merged())
    return merged


def projections(model: Model | ValueModel) -> dict[str, nn.Linear | LoRALinear]:
    """Return the linear projections of all layers by name, adapted or not."""
    return {
        f"backbone.layers.{name}": module
        for name, module in model.backbone.layers.named_modules()
        if isinstance(module, nn.Linear | LoRALinear)
    }


def plain_projections(model: Model | ValueModel) -> dict[str, nn.Linear]:
    """Return the linear projections of a model that has no adapters.

    Raises:
        ValueError: the model has adapters.
    """
    if adapters(model):
        raise ValueError("the model has adapters already: call merge_lora first")
    return {n: m for n, m in projections(model).items() if isinstance(m, nn.Linear)}


def stored_projections(model: Model | ValueModel) -> dict[str, list[str]]:
    """Map the checkpoint's module names to the projections each stores, in the model's order."""
    family = family_named(model.spec.family)
    found: dict[str, list[str]] = {}
    for name in projections(model):
        stored = family.weight_name(f"{name}.weight").removesuffix(".weight")
        found.setdefault(stored, []).append(name)
    return found


def _within(name: str) -> str:
    """Return the name of a projection within its layer."""
    return re.sub(r"^backbone\.layers\.\d+\.", "", name)


def _is_meant(target: str, name: str) -> bool:
    return target == "all" or any(
        f"{called}.".startswith(f"{target}.") for called in (name, _within(name))
    )


def _refusal(model: Model | ValueModel, target: str) -> str:
    """Return why a target matches no projection."""
    others = [_within(name) for name, _ in model.named_modules()]
    known = ", ".join(dict.fromkeys(_within(name) for name in projections(model)))
    if "experts" in target or (target == "ffn" and model.spec.moe is not None):
        return f"names experts, which are stacked and cannot be adapted; give one of {known}"
    if any(_is_meant(target, other) for other in others):
        return f"is not a linear projection of a layer; give one of {known}"
    return f"is not a module of this model; give one of all, attention, ffn, {known}"
