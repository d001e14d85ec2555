"""SDAR dense and TraDo: a Qwen3 backbone under a block-causal pattern.

TraDo is SDAR after reinforcement learning, saved by the same class. Released configs exist with and
without `block_size` and `mask_token_id`; the `-b8` to `-b64` checkpoints may state the wrong block,
so callers may override it.

Cheng et al., "SDAR: A Synergistic Diffusion-AutoRegression Paradigm" (2025).
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from unmask.models.families import qwen
from unmask.models.families.family import Config, Conversion, Family, tiny_spec
from unmask.models.spec import ModelSpec


def read_spec(config: Config) -> ModelSpec:
    """Read an SDAR config; see `Family.read_spec`."""
    return ModelSpec(
        **qwen.read_fields(config),
        family="sdar",
        has_qkv_bias=config.get("attention_bias", False),
        has_qk_norm=config.get("qk_norm", True),
        block_size=config.get("block_size") or 4,
    )


def new_config(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of a released config; no `auto_map`, a new model ships no code."""
    # Every released checkpoint norms its queries and keys without a field that states it; ours is
    # for those converted from models that do not.
    ours = {} if spec.has_qk_norm else {"qk_norm": False}
    return {
        **ours,
        **qwen.write_fields(spec),
        **qwen.write_window(spec),
        "architectures": ["SDARForCausalLM"],
        "attention_bias": spec.has_qkv_bias,
        "attn_implementation": "flex_attention",
        "block_size": spec.block_size,
        "bos_token_id": None,
        "debug": False,
        "ep_size": 1,
        "fuse_cross_entropy": True,
        "head_dim": spec.head_width,
        "micro_forward": False,
        "model_type": "sdar",
        "skip_checkpoint": False,
        "use_deepep": False,
    }


def convert_spec(source: ModelSpec, block_size: int | None) -> ModelSpec:
    """Return the spec of an SDAR that continues an autoregressive model; blocks of 4 by default."""
    if block_size is not None and block_size < 1:
        raise ValueError(f"block_size = {block_size}: must be at least 1")
    return replace(source, block_size=block_size or 4)


def unpublished_parts(spec: ModelSpec) -> Iterator[str]:
    """Yield the parts of a spec that the published code lacks."""
    if spec.has_qkv_bias:
        yield "biases of queries, keys and values without one of the output (attention_bias)"
    if not spec.has_qk_norm:
        yield "queries and keys without norms (qk_norm = false)"


FAMILY = Family(
    name="sdar",
    architectures=("SDARForCausalLM",),
    model_type="sdar",
    default_mask_id=151669,
    block_key="block_size",
    read_spec=read_spec,
    new_config=new_config,
    modules=qwen.NAMES,
    tiny=tiny_spec("sdar", has_qk_norm=True, block_size=4),
    preset="sdar",
    reference_arguments="seen",
    dllm_rl_presets={"sdar": "dllm_rl_jetengine", "trado": "dllm_rl_jetengine"},
    conversion=Conversion("<|MASK|>", convert_spec, unpublished_parts),
)
