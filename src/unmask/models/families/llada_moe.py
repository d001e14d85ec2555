"""LLaDA-MoE: full attention, unshifted, with a mixture of experts.

The published code weights by the softmax over all experts: it never reads the config's renormalisation,
score function, groups and scale, so they are not read here either. An
expert bias, where there is one, moves the choice and the weights alike. Its `model_type` is plain
LLaDA's; the architecture tells them apart.

Blocks are only an order of writing; no config states them, and the demos use 32.

Zhu et al., "LLaDA-MoE: A Sparse MoE Diffusion Language Model" (2025).
"""

from typing import Any

from unmask.models.families import qwen
from unmask.models.families.family import TINY_MOE, Config, Family, require, tiny_spec
from unmask.models.spec import ModelSpec, MoESpec


def read_spec(config: Config) -> ModelSpec:
    """Read a LLaDA-MoE config; see `Family.read_spec`."""
    require(config, attention_bias=False, clip_qkv=None)
    fields = qwen.read_fields(config, "dense_intermediate_size")
    return ModelSpec(
        **fields,
        family="llada_moe",
        has_qk_norm=config["qk_layernorm"],
        block_size=32,
        attention="full",
        rotary_width=qwen.rotary_width(config, fields["head_width"]),
        moe=MoESpec(
            layers=expert_layers(config),
            num_experts=config["num_experts"],
            num_active=config["num_experts_per_tok"],
            width=config["expert_intermediate_size"],
            shared_width=config.get("shared_expert_intermediate_size") or 0,
            has_bias=config.get("moe_router_enable_expert_bias") or False,
        ),
    )


def expert_layers(config: Config) -> tuple[int, ...]:
    """Return the layers with experts: those whose `moe_layer_freq` is not 0.

    Raises:
        ValueError: if it is not a list with one number per layer.
    """
    frequencies, num_layers = config["moe_layer_freq"], config["num_hidden_layers"]
    if not isinstance(frequencies, list) or len(frequencies) != num_layers:
        raise ValueError(
            f"config.json: moe_layer_freq = {frequencies!r}: not one number per layer of {num_layers}"
        )
    return tuple(layer for layer, frequency in enumerate(frequencies) if frequency != 0)


def new_config(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of a released config; no `auto_map`, a new model ships no code."""
    moe = spec.moe
    assert moe is not None and moe.router == "softmax", "a LLaDA-MoE has experts chosen by softmax"
    assert not moe.renormalises and moe.scale == 1, "its weights are the probabilities"
    assert not spec.has_qkv_bias, "as in every LLaDA-MoE checkpoint"
    assert spec.head_width * spec.num_heads == spec.width, "a LLaDA-MoE config has no head width"
    return {
        **qwen.write_fields(spec, "dense_intermediate_size"),
        "architectures": ["LLaDAMoEModelLM"],
        "attention_bias": False,
        "clip_qkv": None,
        "expert_intermediate_size": moe.width,
        "model_type": "llada",
        "moe_layer_freq": [int(layer in moe.layers) for layer in range(spec.num_layers)],
        "moe_router_enable_expert_bias": moe.has_bias,
        "moe_router_score_function": "softmax",
        "norm_topk_prob": None,
        "num_experts": moe.num_experts,
        "num_experts_per_tok": moe.num_active,
        "output_router_logits": False,
        "pad_token_id": spec.eos_ids[0] if spec.eos_ids else None,
        "partial_rotary_factor": qwen.rotary_factor(spec),
        "qk_layernorm": spec.has_qk_norm,
        "routed_scaling_factor": 1,
        "router_aux_loss_coef": 0.01,
        "router_num_group": None,
        "router_topk_group": None,
        "shared_expert_intermediate_size": moe.shared_width or None,
        "use_cache": False,
    }


FAMILY = Family(
    name="llada_moe",
    architectures=("LLaDAMoEModelLM", "LLaDAMoEModel"),
    model_type="llada",
    default_mask_id=156895,
    read_spec=read_spec,
    new_config=new_config,
    modules={
        **qwen.NAMES,
        **qwen.EXPERT_NAMES,
        # Not inside the router, where the weight it belongs to is.
        f"{qwen.LAYER}.ffn.router.expert_bias": f"{qwen.STORED}.mlp.expert_bias",
        **qwen.gated_names("ffn.shared", "shared_expert"),
    },
    tiny=tiny_spec("llada_moe", has_qk_norm=True, attention="full", block_size=32, moe=TINY_MOE),
    preset="llada_official",
    reference_arguments="none",
)
