"""Fast-dLLM v2: Qwen2.5 weights under a block-causal pattern, still predicting the next token.

Row i predicts token i + 1, so the first token of a block is predicted by the last row of the clean
block before it. The published sampler opens a block in pieces of 8, which no config states.

Wu et al., "Fast-dLLM v2: Efficient Block-Diffusion LLM" (2025).
"""

from typing import Any

from unmask.models.families import qwen
from unmask.models.families.family import Config, Family, require, tiny_spec
from unmask.models.spec import ModelSpec

CONVENTIONS: dict[str, Any] = {"has_qkv_bias": True, "is_shifted": True, "sub_block_size": 8}


def read_spec(config: Config) -> ModelSpec:
    """Read a Fast-dLLM v2 config; see `Family.read_spec`."""
    require(config, layer_types=["full_attention"] * config["num_hidden_layers"])
    return ModelSpec(
        **qwen.read_fields(config),
        family="fast_dllm_v2",
        block_size=config.get("bd_size") or 32,
        **CONVENTIONS,
    )


def new_config(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of a released config; no `auto_map`, a new model ships no code."""
    assert spec.has_qkv_bias and not spec.has_qk_norm, "as in every Fast-dLLM v2 checkpoint"
    assert spec.head_width * spec.num_heads == spec.width, "a Fast-dLLM config has no head width"
    return {
        **qwen.write_fields(spec),
        **qwen.write_window(spec),
        "architectures": ["Fast_dLLM_QwenForCausalLM"],
        "bd_size": spec.block_size,
        "bos_token_id": None,
        "conplemenrary_mask": True,  # spelled so in the released files
        "layer_types": ["full_attention"] * spec.num_layers,
        "model_type": "Fast_dLLM_Qwen",
        "pad_token_id": spec.eos_ids[0] if spec.eos_ids else None,
    }


FAMILY = Family(
    name="fast_dllm_v2",
    architectures=("Fast_dLLM_QwenForCausalLM",),
    model_type="Fast_dLLM_Qwen",
    default_mask_id=151665,
    block_key="bd_size",
    read_spec=read_spec,
    new_config=new_config,
    modules=qwen.NAMES,
    tiny=tiny_spec("fast_dllm_v2", block_size=32, **CONVENTIONS),
    preset="fastdllm_v2",
    reference_arguments="block_size",
)
