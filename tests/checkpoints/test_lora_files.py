"""Adapter files: peft's names and shapes, the same bits after reading, and a named refusal of all else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.models.toy import GOLDEN
from tests.toy import toy_model
from unmask.checkpoints.checkpoint import load_model
from unmask.checkpoints.lora_files import load_adapter, save_adapter
from unmask.checkpoints.weights import stored_tensors
from unmask.models.families import families
from unmask.models.lora import LoRAParams, adapters, add_lora, merge_lora
from unmask.models.transformer import Model

NAMES = [family.name for family in families()]
CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
QUERY = "base_model.model.model.layers.0.self_attn.q_proj"
pytestmark = pytest.mark.filterwarnings("ignore:no mask id")


def of_family(name: str) -> Model:
    return load_model(GOLDEN / name, mask_id=147 if name == "lladav" else 319)


def adapted(model: Model, *targets: str, rank: int = 4, alpha: float = 6.0) -> Model:
    """Return the model with adapters that change its outputs."""
    add_lora(model, LoRAParams(rank, alpha, targets or ("all",)))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for adapter in adapters(model).values():
            adapter.lora_b.copy_(torch.randn(adapter.lora_b.shape, generator=generator))
    return model


def config_of(place: Path) -> dict[str, Any]:
    return json.loads((place / CONFIG).read_text())


def shapes_of(tensors: dict[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in tensors.items()}


@pytest.mark.parametrize("family", sorted(set(NAMES) - {"lladav"}))  # whose names are Qwen's
def test_names_and_shapes_are_those_that_peft_makes(family: str, tmp_path: Path) -> None:
    save_adapter(adapted(of_family(family)), tmp_path)
    recorded = json.loads((GOLDEN / "peft_names.json").read_text())[family]
    assert shapes_of(load_file(tmp_path / TENSORS)) == recorded


@pytest.mark.parametrize("family", NAMES)
def test_stored_matrices_are_the_change_of_the_stored_weights(family: str, tmp_path: Path) -> None:
    """The change that peft adds to the published model, fused projections included, equals that of merging."""
    model = adapted(of_family(family))
    save_adapter(model, tmp_path)
    held, config = load_file(tmp_path / TENSORS), config_of(tmp_path)
    before = stored_tensors(of_family(family), None)
    after = stored_tensors(merge_lora(model), None)
    for name in before:
        module = name.removesuffix(".weight")
        a, b = (held.get(f"base_model.model.{module}.lora_{x}.weight") for x in "AB")
        if a is None or b is None:
            assert torch.equal(before[name], after[name])
            continue
        scale = config["alpha_pattern"].get(module, config["lora_alpha"]) / len(a)
        assert config["rank_pattern"].get(module, config["r"]) == len(a)
        torch.testing.assert_close(before[name] + scale * b @ a, after[name], atol=1e-5, rtol=0)
        assert not torch.equal(before[name], after[name])


@pytest.mark.parametrize(
    "targets", [("all",), ("attention",), ("backbone.layers.1.attention.out",)]
)
@pytest.mark.parametrize("family", NAMES)
def test_targets_fit_the_adapted_modules_and_no_others(
    family: str, targets: tuple[str, ...], tmp_path: Path
) -> None:
    model = adapted(of_family(family), *targets)
    save_adapter(model, tmp_path)
    meant = config_of(tmp_path)["target_modules"]
    modules = {n.removesuffix(".weight") for n in stored_tensors(merge_lora(model), None)}
    fitting = {m for m in modules if m in meant or any(m.endswith(f".{end}") for end in meant)}
    held = {n.removeprefix("base_model.model.") for n in load_file(tmp_path / TENSORS)}
    assert fitting == {name.rsplit(".", 2)[0] for name in held}


def test_targets_are_short_where_nothing_else_is_called_so(tmp_path: Path) -> None:
    save_adapter(adapted(of_family("sdar"), "attention"), tmp_path / "sdar")
    save_adapter(adapted(of_family("llada"), "ffn"), tmp_path / "llada")
    assert config_of(tmp_path / "sdar")["target_modules"] == [f"{x}_proj" for x in "koqv"]
    # `ff_out` alone is the head too.
    assert "0.ff_out" in config_of(tmp_path / "llada")["target_modules"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", NAMES)
def test_what_is_saved_is_loaded_to_the_bit(
    family: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    model = of_family(family).to(dtype)
    adapted(model, "all", *(["ffn.experts"] if model.spec.moe else []), alpha=0.7)
    save_adapter(model, tmp_path)
    again = of_family(family).to(dtype)
    load_adapter(again, tmp_path)
    ours, theirs = dict(model.named_parameters()), dict(again.named_parameters())
    assert list(ours) == list(theirs)
    assert all(torch.equal(p, theirs[name]) for name, p in ours.items())
    assert all(p.requires_grad == theirs[name].requires_grad for name, p in ours.items())
    scales = {name: adapter.scale for name, adapter in adapters(model).items()}
    assert {name: adapter.scale for name, adapter in adapters(again).items()} == scales


def test_the_config_is_one_that_peft_reads(tmp_path: Path) -> None:
    model = adapted(of_family("sdar"))
    save_adapter(model, tmp_path)
    assert config_of(tmp_path) == {
        "alpha_pattern": {},
        "base_model_name_or_path": str(GOLDEN / "sdar"),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": 6,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": 4,
        "rank_pattern": {},
        "target_modules": [f"{x}_proj" for x in ("down", "gate", "k", "o", "q", "up", "v")],
        "task_type": None,
        "use_dora": False,
        "use_rslora": False,
    }
    save_adapter(model, tmp_path, base="hub/name")
    assert config_of(tmp_path)["base_model_name_or_path"] == "hub/name"


def test_a_fused_adapter_has_its_matrices_along_the_diagonal(tmp_path: Path) -> None:
    model = adapted(of_family("llada2"))
    save_adapter(model, tmp_path)
    config = config_of(tmp_path)
    module = "model.layers.0.attention.query_key_value"
    assert (config["r"], config["lora_alpha"]) == (4, 6)
    assert (config["rank_pattern"][module], config["alpha_pattern"][module]) == (12, 18)
    b = load_file(tmp_path / TENSORS)[f"base_model.model.{module}.lora_B.weight"]
    parts = [adapters(model)[f"backbone.layers.0.attention.{x}"].lora_b for x in "qkv"]
    assert torch.equal(b, torch.block_diag(*parts))


def test_a_fused_adapter_of_any_other_shape_is_shared_by_its_parts(tmp_path: Path) -> None:
    """As peft trains it: one A, and a B that is full."""
    model = of_family("llada2")
    name = "model.layers.1.attention.query_key_value"
    weight = stored_tensors(model, None)[f"{name}.weight"]
    for rank in (4, 6):  # 6 would fall into three by its size alone
        a, b = torch.randn(rank, weight.shape[1]), torch.randn(weight.shape[0], rank)
        held = {f"base_model.model.{name}.lora_{x}.weight": t for x, t in (("A", a), ("B", b))}
        save_file(held, tmp_path / TENSORS)
        config = {"peft_type": "LORA", "r": rank, "lora_alpha": 8, "lora_dropout": 0.1}
        (tmp_path / CONFIG).write_text(json.dumps(config))
        again = of_family("llada2")
        load_adapter(again, tmp_path)
        assert {adapter.rank for adapter in adapters(again).values()} == {rank}
        merged = stored_tensors(merge_lora(again), None)[f"{name}.weight"]
        torch.testing.assert_close(merged, weight + 8 / rank * b @ a, atol=1e-5, rtol=0)


def test_patterns_are_matched_as_peft_does(tmp_path: Path) -> None:
    tensors: dict[str, Tensor] = {}
    for layer, rank in ((0, 2), (1, 5)):
        name = QUERY.replace("layers.0", f"layers.{layer}")
        tensors[f"{name}.lora_A.weight"] = torch.randn(rank, 64)
        tensors[f"{name}.lora_B.weight"] = torch.randn(128, rank)
    save_file(tensors, tmp_path / TENSORS)
    patterns = {
        "rank_pattern": {"layers.1.self_attn.q_proj": 5},
        "alpha_pattern": {"q_proj": 3, "k_proj": 7},
    }
    (tmp_path / CONFIG).write_text(
        json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4, **patterns})
    )
    model = of_family("sdar")
    load_adapter(model, tmp_path)
    assert [adapter.scale for adapter in adapters(model).values()] == [3 / 2, 3 / 5]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("peft_type", "LOHA", "peft_type = 'LOHA': only 'LORA' is supported"),
        ("bias", "all", "bias = 'all': only 'none' is supported"),
        ("init_lora_weights", "pissa", "init_lora_weights = 'pissa': only True is supported"),
        ("use_dora", True, "use_dora = True is not supported"),
        ("use_rslora", True, "use_rslora = True is not supported"),
        ("modules_to_save", ["lm_head"], r"modules_to_save = \['lm_head'\] is not supported"),
        ("r", 0, "r = 0: must be greater than or equal to 1"),
        ("r", "8", "r = '8': must be a valid integer"),
        ("r", 10**12, "r = 1000000000000: must be less than"),
        ("lora_alpha", None, "lora_alpha = None: must be a valid number"),
        ("lora_alpha", float("nan"), "lora_alpha = nan: must be a finite number"),
        ("rank_pattern", [1], r"rank_pattern = \[1\]: must be a valid dictionary"),
        ("rank_pattern", {"q_proj": "2"}, "rank_pattern.q_proj = '2': must be a valid integer"),
        ("alpha_pattern", {"(a+)+$": 2}, r"alpha_pattern.*String should match pattern"),
    ],
)
def test_an_unsupported_option_is_named(key: str, value: object, said: str, tmp_path: Path) -> None:
    save_adapter(adapted(of_family("sdar")), tmp_path)
    (tmp_path / CONFIG).write_text(json.dumps({**config_of(tmp_path), key: value}))
    model = of_family("sdar")
    with pytest.raises(ValueError, match=f"adapter_config.json: {said}"):
        load_adapter(model, tmp_path)
    assert not adapters(model)


def rename(old: str, new: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda held: {name.replace(old, new): tensor for name, tensor in held.items()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (rename("layers.0", "layers.9"), r"unexpected tensor 'base_model\.model\.model\.layers\.9"),
        (rename("base_model.model.", ""), r"unexpected tensor 'model\.layers\.0"),
        (rename("lora_A", "lora_embedding_A"), r"unexpected tensor .*lora_embedding_A"),
        (
            lambda held: {n: t for n, t in held.items() if n != f"{QUERY}.lora_B.weight"},
            r"missing tensor 'base_model.*0\.self_attn\.q_proj\.lora_B\.weight'",
        ),
        (
            lambda held: held | {f"{QUERY}.lora_A.weight": torch.zeros(3, 64)},
            r"layers\.0\.self_attn\.q_proj has shapes \(\(3, 64\), .* ask for \(\(4, 64\), ",
        ),
        (lambda held: {}, "holds no adapter"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]], said: str, tmp_path: Path
) -> None:
    save_adapter(adapted(of_family("sdar")), tmp_path)
    held = change(load_file(tmp_path / TENSORS))
    save_file(held, tmp_path / TENSORS)
    model = of_family("sdar")
    with pytest.raises(ValueError, match=rf"adapter_model\.safetensors: .*{said}"):
        load_adapter(model, tmp_path)
    assert not adapters(model)
    assert all(p.requires_grad for p in model.parameters())


GATE = "base_model.model.model.layers.0.mlp.experts.2.gate_proj"


@pytest.mark.parametrize(
    ("change", "patterns", "said"),
    [
        (
            lambda held: {n: t for n, t in held.items() if not n.startswith(GATE)},
            {},
            r"missing tensor 'base_model.*experts\.2\.gate_proj\.lora_A\.weight'",
        ),
        (
            lambda held: held,
            {"alpha_pattern": {"experts.2.gate_proj": 3}},
            r"the experts of .*experts\.\{e\}\.gate_proj differ in rank or alpha",
        ),
        (
            lambda held: {
                GATE.replace(".2.gate_proj", f".lora_{x}.weight"): torch.ones(4, 4) for x in "AB"
            },
            {"target_parameters": ["mlp.experts.down_proj"]},
            r"mlp\.experts has shapes \(\(4, 4\), \(4, 4\)\), .* ask for",
        ),
        (
            lambda held: {
                GATE.replace(".2.gate_proj", f".lora_{x}.weight"): torch.ones(4, 4) for x in "AB"
            },
            {},
            r"unexpected tensor '.*mlp\.experts\.lora_A\.weight'",
        ),
    ],
)
def test_adapters_of_experts_that_do_not_fit_are_named(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    patterns: dict[str, Any],
    said: str,
    tmp_path: Path,
) -> None:
    save_adapter(adapted(of_family("sdar_moe"), "ffn.experts"), tmp_path)
    save_file(change(load_file(tmp_path / TENSORS)), tmp_path / TENSORS)
    (tmp_path / CONFIG).write_text(json.dumps({**config_of(tmp_path), **patterns}))
    model = of_family("sdar_moe")
    with pytest.raises(ValueError, match=rf"adapter_model\.safetensors: .*{said}"):
        load_adapter(model, tmp_path)
    assert not adapters(model)


def test_a_directory_that_is_no_adapter_is_named(tmp_path: Path) -> None:
    model = of_family("sdar")
    with pytest.raises(ValueError, match=r"has no adapter_config\.json"):
        load_adapter(model, tmp_path)
    save_adapter(adapted(of_family("sdar")), tmp_path)
    file = tmp_path / TENSORS
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_adapter(model, tmp_path)
    file.rename(tmp_path / "adapter_model.bin")
    with pytest.raises(ValueError, match="pickled adapters are not read"):
        load_adapter(model, tmp_path)


def test_nothing_to_save_and_a_second_adapter_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no adapters to save"):
        save_adapter(toy_model(), tmp_path)
    model = adapted(of_family("sdar"))
    save_adapter(model, tmp_path)
    with pytest.raises(ValueError, match="has adapters already"):
        load_adapter(model, tmp_path)


def test_an_adapter_in_memory_does_not_change_with_its_file(tmp_path: Path) -> None:
    save_adapter(adapted(of_family("sdar")), tmp_path)
    model = of_family("sdar")
    load_adapter(model, tmp_path)
    before = [adapter.lora_a.detach().clone() for adapter in adapters(model).values()]
    file = tmp_path / TENSORS
    with file.open("r+b") as stream:
        stream.seek(-4096, 2)
        stream.write(b"\xff" * 4096)
    after = [adapter.lora_a.detach() for adapter in adapters(model).values()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert all(isinstance(adapter.lora_a, nn.Parameter) for adapter in adapters(model).values())
