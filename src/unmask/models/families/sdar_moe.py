"""SDAR-MoE: a Qwen3-MoE backbone under a block-causal pattern.

A softmax router whose chosen weights are renormalised if the config asks for it; layers are dense where
it states so, which no released config does. Released configs leave out block size and mask id.

Cheng et al., "SDAR: A Synergistic Diffusion-AutoRegression Paradigm" (2025).
"""

from dataclasses import replace
from typing import Any

from unmask.models.families import qwen
from unmask.models.families.family import TINY_MOE, Config, Family, require, tiny_spec
from unmask.models.spec import ModelSpec, MoESpec


def read_spec(config: Config) -> ModelSpec:
    """Read an SDAR-MoE config; see `Family.read_spec`."""
    # The published class gives the output projection this bias too, which the backbone lacks.
    require(config, attention_bias=False)
    return ModelSpec(
        **qwen.read_fields(config),
        family="sdar_moe",
        has_qk_norm=True,
        block_size=config.get("block_size") or 4,
        moe=MoESpec(
            layers=expert_layers(config),
            num_experts=config["num_experts"],
            num_active=config["num_experts_per_tok"],
            width=config["moe_intermediate_size"],
            renormalises=config["norm_topk_prob"],
        ),
    )


def expert_layers(config: Config) -> tuple[int, ...]:
    """Return the layers with experts: every `decoder_sparse_step`-th except those in `mlp_only_layers`."""
    step, dense = config["decoder_sparse_step"], config["mlp_only_layers"] or ()
    layers = range(config["num_hidden_layers"])
    return tuple(i for i in layers if i not in dense and (i + 1) % step == 0)


def new_config(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of a released config; no `auto_map`, a new model ships no code."""
    moe = spec.moe
    assert moe is not None and moe.router == "softmax", "an SDAR-MoE has experts chosen by softmax"
    assert spec.has_qk_norm and not spec.has_qkv_bias, "as in every SDAR-MoE checkpoint"
    return {
        **qwen.write_fields(spec),
        **qwen.write_window(spec),
        "architectures": ["SDARMoeForCausalLM"],
        "attention_bias": False,
        "block_size": spec.block_size,
        "bos_token_id": None,
        "decoder_sparse_step": 1,
        "head_dim": spec.head_width,
        "mlp_only_layers": [i for i in range(spec.num_layers) if i not in moe.layers],
        "model_type": "sdar_moe",
        "moe_intermediate_size": moe.width,
        "norm_topk_prob": moe.renormalises,
        "num_experts": moe.num_experts,
        "num_experts_per_tok": moe.num_active,
        "output_router_logits": False,
        "router_aux_loss_coef": 0.001,
    }


FAMILY = Family(
    name="sdar_moe",
    architectures=("SDARMoeForCausalLM",),
    model_type="sdar_moe",
    default_mask_id=151669,
    block_key="block_size",
    read_spec=read_spec,
    new_config=new_config,
    modules={**qwen.NAMES, **qwen.EXPERT_NAMES},
    tiny=tiny_spec(
        "sdar_moe", has_qk_norm=True, block_size=4, moe=replace(TINY_MOE, renormalises=True)
    ),
    preset="sdar",
    reference_arguments="seen",
)
