"""Counted parameters and activations are those of a real model and its autograd graph."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.toy import SPEC
from unmask.checkpoints.random_init import random_spec
from unmask.configs.model import TrainedParts
from unmask.models.heads import Targets
from unmask.models.lora import LoRAParams, add_lora
from unmask.models.spec import MoESpec
from unmask.models.tiled_attention import plan_documents
from unmask.models.transformer import Model, initialise
from unmask.models.value_model import ValueModel
from unmask.planning.sizes import adapter_parameters, saved_bytes, sizes_of, trained_parameters

TOKENS = 512
WIDE = replace(
    SPEC, width=128, num_heads=4, head_width=32, ffn_width=512, vocab_size=64, max_length=1024
)
EXPERTS = MoESpec((0, 1), num_experts=8, num_active=2, width=64, renormalises=True)


def kept_bytes(spec: Any, dtype: torch.dtype, lora: LoRAParams | None = None) -> int:
    """Return the bytes that autograd saves in a forward pass, each storage once, weights left out."""
    model = Model(spec)
    initialise(model, 0)
    model = model.to(dtype)
    if lora is not None:
        add_lora(model, lora)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in weights:
            kept[place] = tensor  # alive, so that no other storage takes its place
        return tensor

    positions = torch.arange(TOKENS)
    zeros = torch.zeros_like(positions)
    structure = torch.stack((zeros, positions // 4, zeros, zeros - 1))
    targets = Targets(torch.ones(4, dtype=torch.long), torch.ones(4))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(zeros + 2, positions, plan_documents(structure), positions[:4], targets)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"has_qk_norm": False},
        {"num_kv_heads": 4},
        {"moe": EXPERTS},
        {"moe": replace(EXPERTS, shared_width=32)},
    ],
)
def test_activations_are_what_autograd_saves(dtype: torch.dtype, changes: dict[str, Any]) -> None:
    """The difference of two layers and one is a layer, without embedding and head."""
    spec = replace(WIDE, **changes)
    measured = kept_bytes(spec, dtype) - kept_bytes(replace(spec, num_layers=1), dtype)
    assert saved_bytes(spec, 1, TOKENS, dtype.itemsize, is_cpu=True) == pytest.approx(
        measured, rel=0.01
    )


def test_under_adapters_no_norm_keeps_its_normed_numbers() -> None:
    lora = LoRAParams(rank=1)
    measured = kept_bytes(WIDE, torch.float32, lora)
    measured -= kept_bytes(replace(WIDE, num_layers=1), torch.float32, lora)
    found = saved_bytes(WIDE, 1, TOKENS, 4, is_cpu=True, is_frozen=True)
    assert found == pytest.approx(measured, rel=0.02)
    assert found < 0.9 * saved_bytes(WIDE, 1, TOKENS, 4, is_cpu=True)


def test_a_gpu_keeps_less_of_norms() -> None:
    on_cpu, on_gpu = (saved_bytes(WIDE, 0, TOKENS, 2, is_cpu) for is_cpu in (True, False))
    heads = (WIDE.num_heads + WIDE.num_kv_heads) * WIDE.head_width
    # Input and normed numbers in fp32 are 8 bytes, the input in bf16 is 2; two norms of rows, one of heads.
    assert on_cpu - on_gpu == TOKENS * 6 * (2 * WIDE.width + heads)


@pytest.mark.parametrize("family", ["sdar", "sdar_moe", "llada2"])
def test_sizes_add_up(family: str) -> None:
    spec = random_spec(family, "tiny", 40)
    sizes = sizes_of(spec)
    model = Model(spec)
    total = sum(parameter.numel() for parameter in model.parameters())
    layers = sum(parameter.numel() for parameter in model.backbone.layers.parameters())
    assert (sizes.total, sizes.root) == (total, total - layers)
    idle = 0 if spec.moe is None else 1 - spec.moe.num_active / spec.moe.num_experts
    assert sizes.body == layers - sizes.experts * idle
    assert sizes.layer <= layers <= spec.num_layers * sizes.layer


@pytest.mark.parametrize("targets", [("all",), ("attention.q", "ffn.down")])
def test_adapters_are_counted(targets: tuple[str, ...]) -> None:
    model = Model(SPEC)
    add_lora(model, LoRAParams(rank=3, targets=targets))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert adapter_parameters(SPEC, LoRAParams(rank=3, targets=targets)) == trained


def test_adapters_of_experts_are_counted() -> None:
    spec = random_spec("sdar_moe", "tiny", 40)
    model = Model(spec)
    add_lora(model, LoRAParams(rank=2, targets=("all", "ffn.experts")))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    lora = LoRAParams(rank=2, targets=("all", "ffn.experts"))
    assert adapter_parameters(spec, lora) == trained


@pytest.mark.parametrize(
    "parts", ["language", "projector", "with_projector", "all", "published_layers"]
)
def test_parts_that_are_trained(parts: TrainedParts) -> None:
    """Against sums by name; the norm behind the tower is never trained."""
    spec = random_spec("lladav", "tiny", 128)
    for model, is_value in ((Model(spec), False), (ValueModel(spec), True)):
        counts = {name: p.numel() for name, p in model.named_parameters()}
        unused = sum(n for name, n in counts.items() if "post_layernorm" in name)
        tower = sum(n for name, n in counts.items() if ".vision.tower." in name)
        projector = sum(n for name, n in counts.items() if ".vision." in name) - tower
        language = sum(counts.values()) - tower - projector
        expected = {
            "language": language,
            "projector": projector + counts.get("value_head.weight", 0),
            "with_projector": language + projector,
            "all": language + projector + tower - unused,
            "published_layers": language - counts["backbone.embedding.weight"],
        }
        assert trained_parameters(spec, parts, is_value) == expected[parts]
    assert sizes_of(spec).tower == tower > 0


def test_a_text_model_is_trained_whole_and_has_no_other_parts() -> None:
    assert trained_parameters(SPEC, "language") == sizes_of(SPEC).total
    assert sizes_of(SPEC).tower == 0
    with pytest.raises(ValueError, match=r"model\.trains = projector"):
        trained_parameters(SPEC, "projector")
