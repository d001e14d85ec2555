"""LLaDA2.0 and 2.1, mini and flash: block-causal, half of each head rotated, grouped sigmoid routing.

The first layers are dense; the others add a feed-forward that every token passes to the experts. The
chosen weights are renormalised whenever there is more than one, whatever `norm_topk_prob` is: the
published code does not read it. Queries, keys and values are stored as one tensor, heads of each in
turn. Released configs leave out block size and mask id.

Bie et al., "LLaDA2.0: Scaling Up Diffusion Language Models to 100B" (2025).
"""

from dataclasses import replace
from typing import Any

from unmask.models.families import qwen
from unmask.models.families.family import TINY_MOE, Config, Family, require, tiny_spec
from unmask.models.spec import ModelSpec, MoESpec

OURS, STORED = f"{qwen.LAYER}.attention", f"{qwen.STORED}.attention"
# Options of the config class that no released checkpoint uses otherwise; the backbone supports no other value.
PLAIN = {
    "moe_router_enable_expert_bias": True,
    "norm_head": False,
    "norm_softmax": False,
    "router_dtype": "fp32",
    "score_function": "sigmoid",
    "use_bias": False,
    "use_qk_norm": True,
    "use_qkv_bias": False,
    "use_rmsnorm": True,
    "using_split_qkv_in_self_attention": False,
}


def read_spec(config: Config) -> ModelSpec:
    """Read a LLaDA2 config; see `Family.read_spec`."""
    require({"use_bias": True, **config}, **PLAIN)  # the default of the published class
    fields = qwen.read_fields(config)
    return ModelSpec(
        **fields,
        family="llada2",
        has_qk_norm=True,
        block_size=config.get("block_size") or 32,
        rotary_width=qwen.rotary_width(config, fields["head_width"]),
        moe=MoESpec(
            layers=tuple(range(config["first_k_dense_replace"], config["num_hidden_layers"])),
            num_experts=config["num_experts"],
            num_active=config["num_experts_per_tok"],
            width=config["moe_intermediate_size"],
            shared_width=config["moe_intermediate_size"] * (config["num_shared_experts"] or 0),
            router="grouped_sigmoid",
            renormalises=config["num_experts_per_tok"] > 1,
            scale=config["routed_scaling_factor"],
            num_groups=config["n_group"],
            num_active_groups=config["topk_group"],
            has_bias=True,
        ),
    )


def new_config(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of a released config; no `auto_map`, a new model ships no code."""
    moe = spec.moe
    assert moe is not None and moe.router == "grouped_sigmoid" and moe.has_bias
    assert moe.renormalises == (moe.num_active > 1), "a config cannot state anything else"
    assert moe.shared_width % moe.width == 0, "the shared width counts experts"
    assert spec.has_qk_norm and not spec.has_qkv_bias, "as in every LLaDA2 checkpoint"
    first = spec.num_layers - len(moe.layers)
    assert moe.layers == tuple(range(first, spec.num_layers)), "experts follow the dense layers"
    return {
        **qwen.write_fields(spec),
        **PLAIN,
        "architectures": ["LLaDA2MoeModelLM"],
        "block_size": spec.block_size,
        "embedding_dropout": 0.0,
        "first_k_dense_replace": first,
        "head_dim": spec.head_width,
        "max_window_layers": spec.num_layers,
        "model_type": "llada2_moe",
        "moe_intermediate_size": moe.width,
        "n_group": moe.num_groups,
        "norm_topk_prob": moe.renormalises,
        "num_experts": moe.num_experts,
        "num_experts_per_tok": moe.num_active,
        "num_shared_experts": moe.shared_width // moe.width,
        "output_dropout": 0.0,
        "output_router_logits": False,
        "pad_token_id": spec.eos_ids[0] if spec.eos_ids else None,
        "partial_rotary_factor": qwen.rotary_factor(spec),
        "rotary_dim": spec.rotary_width or spec.head_width,
        "routed_scaling_factor": moe.scale,
        "sliding_window": None,
        "topk_group": moe.num_active_groups,
        "use_cache": False,
        "use_sliding_window": False,
    }


FAMILY = Family(
    name="llada2",
    architectures=("LLaDA2MoeModelLM",),
    model_type="llada2_moe",
    default_mask_id=156895,
    block_key="block_size",
    read_spec=read_spec,
    new_config=new_config,
    modules={
        **qwen.NAMES,
        "backbone.embedding": "model.word_embeddings",
        **{f"{OURS}.{part}": f"{STORED}.query_key_value" for part in "qkv"},
        f"{OURS}.out": f"{STORED}.dense",
        f"{OURS}.q_norm": f"{STORED}.query_layernorm",
        f"{OURS}.k_norm": f"{STORED}.key_layernorm",
        **qwen.EXPERT_NAMES,
        **qwen.gated_names("ffn.shared", "mlp.shared_experts"),
    },
    tiny=tiny_spec(
        "llada2",
        has_qk_norm=True,
        block_size=32,
        rotary_width=8,
        moe=replace(
            TINY_MOE,
            layers=(1,),
            shared_width=32,
            router="grouped_sigmoid",
            renormalises=True,
            scale=2.5,
            num_groups=4,
            num_active_groups=2,
            has_bias=True,
        ),
    ),
    preset="llada2",
    reference_arguments="added",
)
