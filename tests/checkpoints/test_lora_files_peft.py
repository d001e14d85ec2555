"""Adapters through peft itself, in both directions: on transformers' models and on trees of published names."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from tests.models.toy import FAMILY_CHANGES, family_model
from unmask.checkpoints.lora_files import load_adapter, save_adapter
from unmask.checkpoints.weights import stored_tensors
from unmask.models.lora import LoRAParams, adapters, add_lora, merge_lora
from unmask.models.transformer import Model

EXPERTS = ("attention", "ffn.experts")
TOKENS = torch.randint(0, 39, (2, 12), generator=torch.Generator().manual_seed(5))
pytestmark = pytest.mark.filterwarnings("ignore")


def causal_model(family: str) -> Model:
    """Return a model that transformers has too: in blocks of one token SDAR's pattern is causal."""
    changes: dict[str, Any] = {"block_size": 1}
    if family == "sdar_moe":
        changes["moe"] = replace(FAMILY_CHANGES[family]["moe"], layers=(0, 1, 2))
    return family_model(family, **changes)


def transformers_model(model: Model) -> nn.Module:
    """Return the same model as transformers builds it, experts stacked."""
    spec, held = model.spec, stored_tensors(model, None)
    fields: dict[str, Any] = {
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.width,
        "intermediate_size": spec.ffn_width,
        "num_hidden_layers": spec.num_layers,
        "num_attention_heads": spec.num_heads,
        "num_key_value_heads": spec.num_kv_heads,
        "head_dim": spec.head_width,
        "rms_norm_eps": spec.norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": spec.rope_theta},
        "tie_word_embeddings": False,
    }
    if (moe := spec.moe) is None:
        theirs: nn.Module = Qwen3ForCausalLM(Qwen3Config(**fields))
    else:
        theirs = Qwen3MoeForCausalLM(
            Qwen3MoeConfig(
                **fields,
                num_experts=moe.num_experts,
                num_experts_per_tok=moe.num_active,
                moe_intermediate_size=moe.width,
                norm_topk_prob=moe.renormalises,
                mlp_only_layers=[],
            )
        )
        for layer in range(spec.num_layers):
            experts, ours = f"model.layers.{layer}.mlp.experts", model.backbone.layers[layer].ffn
            weights = [
                getattr(ours.experts, part).weight.detach() for part in ("gate", "up", "down")
            ]
            held = {name: t for name, t in held.items() if f"{experts}." not in name}
            held[f"{experts}.gate_up_proj"] = torch.cat(weights[:2], 1)  # (experts, 2 * out, in)
            held[f"{experts}.down_proj"] = weights[2]
    theirs.load_state_dict(held)
    return theirs.eval()


class Tree(nn.Module):
    """Linear layers under the names of a checkpoint's matrices, as the published code nests them."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        """Build the modules of `weights`, by dotted name."""
        super().__init__()
        for child in dict.fromkeys(name.partition(".")[0] for name in weights):
            below = {
                n.partition(".")[2]: w for n, w in weights.items() if n.partition(".")[0] == child
            }
            if "" not in below:
                self.add_module(child, Tree(below))
                continue
            linear = nn.Linear(*reversed(below[""].shape), bias=False)
            linear.weight = nn.Parameter(below[""].clone())
            self.add_module(child, linear)


def matrices_of(model: Model) -> dict[str, Tensor]:
    """Return the matrices of a checkpoint by module name."""
    tensors = stored_tensors(model, None)
    return {n.removesuffix(".weight"): t for n, t in tensors.items() if t.dim() == 2}


def train(module: nn.Module) -> None:
    """Draw the adapters of a module, as training would move them."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if ".lora_" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))


def logits(module: nn.Module) -> Tensor:
    with torch.no_grad():
        return module.logits(TOKENS) if isinstance(module, Model) else module(TOKENS).logits


@pytest.mark.parametrize("family", ["sdar", "sdar_moe"])
def test_transformers_computes_the_same_logits_with_our_adapters(
    family: str, tmp_path: Path
) -> None:
    model = causal_model(family)
    start = transformers_model(model)
    torch.testing.assert_close(logits(start), logits(model), atol=1e-4, rtol=1e-4)
    before = logits(model)
    add_lora(model, LoRAParams(4, 6.0, EXPERTS if model.spec.moe else ("all",)))
    train(model)
    save_adapter(model, tmp_path)
    theirs = PeftModel.from_pretrained(start, tmp_path)
    assert float((logits(model) - before).abs().max()) > 0.1
    torch.testing.assert_close(logits(theirs), logits(model), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("family", "parameters"),
    [
        ("sdar", []),
        ("sdar_moe", ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]),
        ("sdar_moe", ["mlp.experts.gate_up_proj"]),
        ("sdar_moe", ["model.layers.1.mlp.experts.down_proj"]),
    ],
)
def test_adapters_that_peft_trained_give_the_same_logits_here(
    family: str, parameters: list[str], tmp_path: Path
) -> None:
    model = causal_model(family)
    before = logits(model)
    config = LoraConfig(
        r=4, lora_alpha=6, target_modules=["q_proj", "o_proj"], target_parameters=parameters or None
    )
    theirs = get_peft_model(transformers_model(model), config)
    train(theirs)
    theirs.save_pretrained(tmp_path)
    load_adapter(model, tmp_path)
    num_expert_parts = sum(".experts." in name for name in adapters(model))
    assert num_expert_parts == {0: 0, 1: 1 if "1" in str(parameters) else 6, 2: 9}[len(parameters)]
    assert float((logits(model) - before).abs().max()) > 0.1
    torch.testing.assert_close(logits(theirs), logits(model), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILY_CHANGES)
def test_peft_merges_our_files_into_the_published_matrices_of_every_family(
    family: str, tmp_path: Path
) -> None:
    """Fused projections, and experts stored one by one, among them."""
    model = family_model(family)
    base = Tree(matrices_of(model))
    add_lora(model, LoRAParams(4, 6.0, ("all", "ffn.experts") if model.spec.moe else ("all",)))
    train(model)
    save_adapter(model, tmp_path)
    merged = PeftModel.from_pretrained(base, tmp_path).merge_and_unload()
    theirs = {n.removesuffix(".weight"): p.detach() for n, p in merged.named_parameters()}
    ours = matrices_of(merge_lora(model))
    assert theirs.keys() == ours.keys()
    for name, matrix in ours.items():
        torch.testing.assert_close(theirs[name], matrix, atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.parametrize("family", FAMILY_CHANGES)
def test_files_that_peft_trained_on_the_published_matrices_of_every_family_are_read(
    family: str, tmp_path: Path
) -> None:
    model = family_model(family)
    whole = matrices_of(model)
    layers = [n for n in whole if ("layers." in n or "blocks." in n) and "vision" not in n]
    targets = [name for name in layers if not name.endswith("mlp.gate")]  # all but the routers
    theirs = get_peft_model(Tree(whole), LoraConfig(r=4, lora_alpha=6, target_modules=targets))
    train(theirs)
    theirs.save_pretrained(tmp_path)
    load_adapter(model, tmp_path)
    ours, merged = matrices_of(merge_lora(model)), theirs.merge_and_unload()
    for name, parameter in merged.named_parameters():
        name = name.removesuffix(".weight")
        assert torch.equal(ours[name], whole[name]) == (name not in targets)
        torch.testing.assert_close(ours[name], parameter.detach(), atol=1e-5, rtol=1e-5, msg=name)
