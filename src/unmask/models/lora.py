"""LoRA: a frozen model trained through a pair of small matrices next to each projection.

    y = W x + b + (alpha / r) B A x        A (r, in) random, B (out, r) zero at the start

An adapter replaces an `nn.Linear`, or the `StackedLinear` of a layer's experts, under the same name. `W`
keeps its name and its bits, so `adapters_off` gives the initial policy as a frozen reference at no cost.
Adapters have the number format of their weights; the optimizer keeps fp32 masters of both. There is no
dropout. Training and the engine run adapters unmerged; `merge_lora` rounds `W + (alpha / r) B A` once, for
an export.

Experts have one A and one B each, stacked as their weights are. They are adapted only where a target names
them (`ffn.experts`, `ffn.experts.gate`): `all` and `ffn` are all other projections. Embedding and head are
not adapted.

Where a family stores projections fused (LLaDA2's queries, keys and values), they are adapted together or
not at all, so that one adapter on the stored tensor can express the same change (`lora_files`).

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
from unmask.models.linear import Linear, Multiply
from unmask.models.stacked_linear import StackedLinear, project_groups
from unmask.models.transformer import Model
from unmask.models.value_model import ValueModel

M = TypeVar("M", bound=nn.Module)
Projection = Linear | StackedLinear


class LoRALinear(nn.Module):
    """A projection with an adapter; `weight` and `bias` are the parameters of the projection.

    Attributes:
        alpha: the adapter is scaled by `alpha / rank`.
        is_on: whether the adapter is added.
        multiply: computes products outside experts, as the projection did.
    """

    bias: Tensor | None
    multiply: Multiply

    def __init__(self, linear: Projection, lora_a: Tensor, lora_b: Tensor, alpha: float) -> None:
        """Wrap a projection.

        Args:
            linear: the projection.
            lora_a: `(r, in)`, or `(experts, r, in)`.
            lora_b: `(out, r)`, or `(experts, out, r)`.
            alpha: numerator of the scale.
        """
        super().__init__()
        self.weight = linear.weight
        self.register_parameter("bias", getattr(linear, "bias", None))
        self.lora_a = nn.Parameter(lora_a.to(linear.weight))
        self.lora_b = nn.Parameter(lora_b.to(linear.weight))
        self.alpha = alpha
        self.is_on = True
        self.multiply = linear.multiply if isinstance(linear, Linear) else F.linear

    @property
    def rank(self) -> int:
        """Rank of the adapter."""
        return self.lora_a.shape[-2]

    @property
    def scale(self) -> float:
        """Factor of the adapter's output."""
        return self.alpha / self.rank

    def forward(self, x: Tensor, ends: Tensor | None = None) -> Tensor:
        """Project `x (..., in)`, or with `ends` the grouped rows of experts; see `project_groups`."""

        def project(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
            if ends is None:
                return self.multiply(x, weight, bias)
            return project_groups(x, weight, ends)

        y = project(x, self.weight, self.bias)
        if not self.is_on:
            return y
        return y + self.scale * project(project(x, self.lora_a), self.lora_b)

    @torch.no_grad()
    def merged(self) -> Projection:
        """Return a plain projection with the adapter added, rounded once to the weight's number format."""
        out, width = self.weight.shape[-2:]
        with torch.device("meta"):
            linear = (
                StackedLinear(len(self.weight), width, out)
                if self.weight.dim() == 3
                else Linear(width, out, bias=self.bias is not None)
            )
        if isinstance(linear, Linear):
            linear.multiply = self.multiply
        change = self.scale * (widen(self.lora_b) @ widen(self.lora_a))
        linear.weight = nn.Parameter((widen(self.weight) + change).to(self.weight.dtype))
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias.detach())
        return linear


def adapters(model: nn.Module) -> dict[str, LoRALinear]:
    """Return the adapted projections by name; empty for a model without adapters."""
    return {name: m for name, m in model.named_modules() if isinstance(m, LoRALinear)}


def add_lora(model: Model | ValueModel, params: LoRAParams, seed: int = 0) -> None:
    """Freeze a model, in place, and put adapters on its projections; its outputs do not change.

    Args:
        model: without adapters.
        params: targets, rank and scale.
        seed: of the random A, uniform as in a fresh `nn.Linear` (and as in peft).

    Raises:
        ValueError: naming a target that matches no projection, cannot be adapted, or is only a part of
            a tensor that the family stores fused.
    """
    found = plain_projections(model)
    chosen = choose_targets(model, params.targets)
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    for name in chosen:
        *experts, out, width = found[name].weight.shape
        drawn = torch.rand(*experts, params.rank, width, generator=generator)
        lora_a = (2 * drawn - 1) / math.sqrt(width)
        lora_b = torch.zeros(*experts, out, params.rank)
        model.set_submodule(name, LoRALinear(found[name], lora_a, lora_b, params.alpha))


def choose_targets(model: Model | ValueModel, targets: Sequence[str]) -> list[str]:
    """Return the names of the projections that `targets` match, in the model's order.

    Raises:
        ValueError: as `add_lora`.
    """
    names = list(projections(model))
    wanted: set[str] = set()
    for target in targets:
        matched = {name for name in names if _matches(target, name)}
        if not matched:
            raise ValueError(f"lora.targets: {target!r} {_refusal(model, target)}")
        wanted |= matched
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
    """Disable the adapters inside the context: the model is then the frozen initial policy.

    For scoring without gradients. A backward pass must run inside the context too, because checkpointed
    layers are recomputed in it, and captured CUDA graphs of an engine are not affected.

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

    The given model does not change. Weights without adapters are shared with it, not copied: clone
    before training the result. A model without adapters is returned as it is.
    """
    if not adapters(model):
        return model
    shared: dict[int, Any] = {id(p): nn.Parameter(p.detach()) for p in model.parameters()}
    shared |= {id(buffer): buffer for buffer in model.buffers()}
    merged = copy.deepcopy(model, shared)
    for name, adapter in adapters(merged).items():
        merged.set_submodule(name, adapter.merged())
    return merged


def projections(model: Model | ValueModel) -> dict[str, Projection | LoRALinear]:
    """Return the linear projections of all layers by name, adapted or not."""
    return {
        f"backbone.layers.{name}": module
        for name, module in model.backbone.layers.named_modules()
        if isinstance(module, Projection | LoRALinear)
    }


def plain_projections(model: Model | ValueModel) -> dict[str, Projection]:
    """Return the linear projections of a model that has no adapters.

    Raises:
        ValueError: if it has adapters.
    """
    if adapters(model):
        raise ValueError("the model has adapters already: merge_lora first")
    return {n: m for n, m in projections(model).items() if isinstance(m, Projection)}


def stored_projections(model: Model | ValueModel) -> dict[str, list[str]]:
    """Return the checkpoint's module names, each with our projections that it holds, from top to bottom.

    Modules of experts that the checkpoint stores one by one have `{e}` for the expert in their name.
    """
    family = family_named(model.spec.family)
    found: dict[str, list[str]] = {}
    for name in projections(model):
        stored = family.weight_name(f"{name}.weight").removesuffix(".weight")
        found.setdefault(stored, []).append(name)
    return found


def _within(name: str) -> str:
    """Return the name of a projection within its layer."""
    return re.sub(r"^backbone\.layers\.\d+\.", "", name)


def _matches(target: str, name: str) -> bool:
    """Return whether a target is the projection, one of its parents, or `all`; experts must be named."""
    if ".experts." in name and "experts" not in target:
        return False
    return target == "all" or any(
        f"{called}.".startswith(f"{target}.") for called in (name, _within(name))
    )


def _refusal(model: Model | ValueModel, target: str) -> str:
    """Return why a target matches no projection."""
    others = [_within(name) for name, _ in model.named_modules()]
    known = ", ".join(dict.fromkeys(_within(name) for name in projections(model)))
    if target == "ffn" and model.spec.moe is not None:
        return "is experts alone in this model: name them, as ffn.experts"
    if any(_matches(target, other) for other in others):
        return f"is not a linear projection of a layer; those are {known}"
    return f"is not a module of this model; what can be adapted: all, attention, ffn, {known}"
