"""LoRA: nothing changes at the start, gradients are the chain rule's, merging is one rounding, targets are exact."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.engine.bits import assert_same, exact_dtype
from tests.engine.models import model_of
from tests.engine.writers import by_engine, by_reference, some_asks
from tests.models.toy import GOLDEN
from tests.toy import toy_model
from tests.trainers.toy_runs import policy_views
from unmask.checkpoints.checkpoint import load_model, save_model
from unmask.configs.optimizer import OptimizerConfig
from unmask.models.families import families
from unmask.models.lora import (
    LoRALinear,
    LoRAParams,
    adapters,
    adapters_off,
    add_lora,
    choose_targets,
    merge_lora,
)
from unmask.models.transformer import Model
from unmask.trainers.learner import Learner

NAMES = [family.name for family in families()]
pytestmark = pytest.mark.filterwarnings("ignore:no mask id")


def of_family(name: str, dtype: torch.dtype = torch.float64) -> Model:
    """Return a published kind of model, small."""
    mask_id = 147 if name == "lladav" else 319
    return load_model(GOLDEN / name, dtype=dtype, mask_id=mask_id)


def adapt(model: Model, targets: Sequence[str] = ("all",), rank: int = 3) -> Model:
    """Return the model with adapters that change its outputs."""
    add_lora(model, LoRAParams(rank, 1.5 * rank, tuple(targets)))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for adapter in adapters(model).values():
            drawn = torch.randn(adapter.lora_b.shape, generator=generator)
            adapter.lora_b.copy_(0.1 * drawn)
    return model


def everything(family: str) -> list[str]:
    return ["all", "ffn.experts"] if of_family(family).spec.moe else ["all"]


def tokens(model: Model) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, model.spec.num_drawable, (2, 24), generator=generator)


def test_an_adapter_adds_the_scaled_product_of_its_matrices() -> None:
    linear = torch.nn.Linear(5, 4, dtype=torch.float64)
    a, b = torch.randn(2, 5, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)
    adapted, x = LoRALinear(linear, a, b, alpha=6.0), torch.randn(7, 5, dtype=torch.float64)
    expected = linear(x) + 3.0 * x @ a.T @ b.T
    torch.testing.assert_close(adapted(x), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(adapted.merged()(x), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("family", NAMES)
def test_fresh_adapters_change_nothing_and_alone_are_trained(family: str) -> None:
    model = of_family(family, torch.float32)
    before = model.logits(tokens(model))
    held = {name: p.detach().clone() for name, p in model.named_parameters()}
    add_lora(model, LoRAParams(rank=3))
    assert torch.equal(model.logits(tokens(model)), before)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {f"{name}.lora_{x}" for name in adapters(model) for x in "ab"}
    now = dict(model.named_parameters())
    assert all(torch.equal(now[name], weight) for name, weight in held.items())


def test_a_is_drawn_by_the_seed_as_peft_draws_it() -> None:
    drawn = []
    for seed in (0, 0, 1):
        model = toy_model()
        add_lora(model, LoRAParams(rank=16), seed)
        drawn.append(torch.cat([a.lora_a.flatten() for a in adapters(model).values()]))
        for adapter in adapters(model).values():
            bound = adapter.weight.shape[1] ** -0.5
            assert 0.95 * bound < float(adapter.lora_a.detach().abs().max()) <= bound
            assert not adapter.lora_b.any()
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("family", NAMES)
def test_gradients_are_those_of_the_merged_model_by_the_chain_rule(family: str) -> None:
    """W' = W + s B A, so dA = s B^T dW' and dB = s dW' A^T; of every expert too."""
    model = adapt(of_family(family), everything(family))
    merged = merge_lora(model)
    weight = torch.randn(2, 24, model.spec.vocab_size, dtype=torch.float64)
    for one in (model, merged):
        (one.logits(tokens(one)).log_softmax(-1) * weight).sum().backward()
    whole = dict(merged.named_parameters())
    for name, adapter in adapters(model).items():
        change = whole[f"{name}.weight"].grad
        assert change is not None and adapter.weight.grad is None
        a, b = adapter.lora_a.detach(), adapter.lora_b.detach()
        expected = adapter.scale * b.mT @ change, adapter.scale * change @ a.mT
        for found, wanted in zip((adapter.lora_a.grad, adapter.lora_b.grad), expected, strict=True):
            assert found is not None and wanted.abs().max() > 0
            assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-10


@pytest.mark.parametrize("family", NAMES)
def test_a_merged_model_has_the_same_outputs_and_the_adapted_one_is_unchanged(family: str) -> None:
    model = adapt(of_family(family), everything(family))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    says = model.logits(tokens(model))
    with adapters_off(model):
        started = model.logits(tokens(model))
    merged = merge_lora(model)
    torch.testing.assert_close(merged.logits(tokens(model)), says, atol=1e-10, rtol=0)
    assert float((says - started).detach().abs().max()) > 0.1
    assert not adapters(merged)
    assert all(p.requires_grad for p in merged.parameters())
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {f"{name}.lora_{x}" for name in adapters(model) for x in "ab"}


def test_a_merged_model_shares_what_was_not_adapted_and_stays_tied() -> None:
    model = adapt(toy_model(is_tied=True), ["attention"])
    merged = merge_lora(model)
    ours, theirs = dict(model.named_parameters()), dict(merged.named_parameters())
    for name, weight in theirs.items():
        is_adapted = name.removesuffix(".weight") in adapters(model)
        assert (weight.data_ptr() == ours[name].data_ptr()) != is_adapted
    assert merged.head.projection.weight is merged.backbone.embedding.weight
    plain = toy_model()
    assert merge_lora(plain) is plain


def test_bf16_is_rounded_once_in_merging() -> None:
    model = adapt(toy_model(dtype=torch.bfloat16))
    merged = dict(merge_lora(model).named_parameters())
    for name, adapter in adapters(model).items():
        change = adapter.scale * (adapter.lora_b.double() @ adapter.lora_a.double())
        expected = (adapter.weight.double() + change).float().bfloat16()
        assert adapter.lora_a.dtype == torch.bfloat16
        share = (merged[f"{name}.weight"] == expected).double().mean()
        assert share > 0.99  # fp32 products, where these are fp64


def test_an_export_holds_merged_weights_under_the_old_names(tmp_path: Path) -> None:
    model = adapt(of_family("llada2", torch.float32))
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    whole = dict(merge_lora(model).named_parameters())
    assert all(torch.equal(p, whole[name]) for name, p in again.named_parameters())
    assert adapters(model)
    assert again.spec == model.spec


def test_adapters_are_off_inside_the_context_and_restored_after_it() -> None:
    model = adapt(toy_model())
    ids, plain = tokens(model), toy_model()
    on = model.logits(ids)
    with pytest.raises(RuntimeError), adapters_off(model) as reference:
        assert torch.equal(reference.logits(ids), plain.logits(ids))
        with adapters_off(model):
            pass
        assert torch.equal(model.logits(ids), plain.logits(ids))
        raise RuntimeError
    assert torch.equal(model.logits(ids), on)
    with pytest.raises(ValueError, match="no adapters to switch off"), adapters_off(plain):
        pass


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        (["attention"], ["attention.q", "attention.k", "attention.v", "attention.out"]),
        (["attention.q", "ffn.up"], ["attention.q", "ffn.up"]),
        (["ffn"], ["ffn.gate", "ffn.up", "ffn.down"]),
    ],
)
def test_targets_name_projections_in_every_layer(targets: list[str], names: list[str]) -> None:
    expected = [f"backbone.layers.{layer}.{name}" for layer in (0, 1) for name in names]
    assert choose_targets(toy_model(), targets) == expected


def test_all_is_every_projection_of_the_layers_and_a_full_name_is_one() -> None:
    model = toy_model()
    linears = [name for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    assert choose_targets(model, ["all"]) == [name for name in linears if "head" not in name]
    one = "backbone.layers.1.ffn.down"
    assert choose_targets(model, [one]) == [one]
    assert choose_targets(model, ["backbone.layers.1"]) == [
        name for name in linears if name.startswith("backbone.layers.1.")
    ]


@pytest.mark.parametrize(
    ("family", "target", "reason"),
    [
        (
            "sdar",
            "q_proj",
            "is not a module of this model; what can be adapted: all, attention, ffn",
        ),
        ("sdar", "", "is not a linear projection"),
        ("sdar", "attention.", "is not a module"),
        ("sdar", "head", "is not a linear projection of a layer; those are attention.q,"),
        ("sdar", "backbone.embedding", "is not a linear projection of a layer"),
        ("sdar", "attention_norm", "is not a linear projection of a layer"),
        ("sdar_moe", "ffn", "is experts alone in this model: name them, as ffn.experts"),
        ("llada2", "experts", "is not a module of this model"),
        ("llada2", "ffn.router", "is not a linear projection of a layer"),
    ],
)
def test_a_target_that_cannot_be_adapted_is_named(family: str, target: str, reason: str) -> None:
    model = of_family(family)
    with pytest.raises(ValueError, match=f"^lora.targets: '{target}' {reason}"):
        add_lora(model, LoRAParams(targets=("attention", target)))
    assert not adapters(model)
    assert all(p.requires_grad for p in model.parameters())


def test_a_part_of_a_fused_projection_is_refused() -> None:
    for targets in (["attention.q"], ["ffn", "attention.q", "attention.v"]):
        with pytest.raises(
            ValueError,
            match=r"llada2 stores .*\.0\.attention\.query_key_value as one tensor: adapt all of "
            r"attention\.q, attention\.k, attention\.v, or none; attention\.k",
        ):
            choose_targets(of_family("llada2"), targets)
    assert choose_targets(of_family("llada2"), ["attention.out"])


def test_experts_are_adapted_where_they_are_named() -> None:
    names = ["gate", "up", "down"]
    layers = [
        f"backbone.layers.{layer}.ffn.experts" for layer in of_family("llada2").spec.moe.layers
    ]
    chosen = choose_targets(of_family("llada2"), ["ffn.experts"])
    assert chosen == [f"{layer}.{name}" for layer in layers for name in names]
    assert choose_targets(of_family("llada2"), ["ffn.experts.up"]) == [f"{x}.up" for x in layers]


def test_the_dense_and_shared_feed_forwards_are_adapted_where_there_are_experts() -> None:
    chosen = choose_targets(of_family("llada2"), ["ffn"])
    assert "backbone.layers.0.ffn.gate" in chosen
    assert "backbone.layers.1.ffn.shared.down" in chosen
    assert not any("experts" in name for name in chosen)


def test_adapters_on_adapters_and_rank_zero_are_refused() -> None:
    model = toy_model()
    with pytest.raises(ValueError, match=r"^rank = 0: must be at least 1"):
        add_lora(model, LoRAParams(rank=0))
    add_lora(model, LoRAParams())
    with pytest.raises(ValueError, match="has adapters already"):
        add_lora(model, LoRAParams())


@pytest.mark.parametrize(
    ("kind", "rank"), [("blocks", 1), ("blocks, shifted", 5), ("canvas, experts", 8)]
)
def test_law_1_holds_with_adapters(kind: str, rank: int) -> None:
    model, targets = model_of(kind, exact_dtype()), ["all"]
    if model.spec.moe is not None:
        model.spec = replace(model.spec, family="llada_moe")  # one that has names for experts
        targets.append("ffn.experts")
    adapt(model, targets, rank)
    asks = some_asks(10, 5, model, 40)
    expected = [by_reference(model, ask) for ask in asks]
    with adapters_off(model):
        assert by_reference(model, asks[0]) != expected[0]
    for size in (1, 10):
        batches = [asks[i : i + size] for i in range(0, len(asks), size)]
        assert_same([t for batch in batches for t in by_engine(model, batch)], expected)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_law_5_holds_with_adapters(dtype: torch.dtype, tolerance: float) -> None:
    model = adapt(toy_model(dtype=dtype))
    views = policy_views(model)
    learner = Learner(model, OptimizerConfig())

    def gap() -> float:
        pairs = zip(views, learner.score(views), strict=True)
        gaps = [(s - v.behavior_logprobs.expand_as(s))[v.target] for v, s in pairs]
        return float(torch.cat(gaps).abs().max())

    assert gap() <= tolerance
    with adapters_off(model):
        assert gap() > 0.01


def test_checkpointing_layers_changes_no_gradient() -> None:
    gradients = []
    for is_on in (False, True):
        model = adapt(toy_model(dtype=torch.float64))
        model.backbone.gradient_checkpointing = is_on
        model.logits(tokens(model)).square().sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)
