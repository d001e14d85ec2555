"""Dream, Dream-Coder and DiffuCoder: Qwen2.5 weights under full attention, still predicting the next token.

Row i predicts token i + 1, as in Qwen2.5. There are no diffusion blocks.

Ye et al., "Dream 7B: Diffusion Large Language Models" (2025).
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from unmask.models.families import qwen
from unmask.models.families.family import Config, Conversion, Family, require, tiny_spec
from unmask.models.spec import ModelSpec

CONVENTIONS: dict[str, Any] = {
    "attention": "full",
    "is_shifted": True,
    "block_size": None,
    "has_qkv_bias": True,
}


def read_spec(config: Config) -> ModelSpec:
    """Read a Dream config; see `Family.read_spec`."""
    require(config, use_mrope=False)
    return ModelSpec(
        **qwen.read_fields(config),
        family="dream",
        has_qk_norm=config.get("qk_norm", False),
        **CONVENTIONS,
    )


def new_config(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of a released config; no `auto_map`, a new model ships no code."""
    assert spec.has_qkv_bias, "as in every Dream checkpoint"
    # No released checkpoint norms its queries and keys or states a head width; the fields are for
    # those converted from models that do.
    ours: dict[str, Any] = {"qk_norm": True} if spec.has_qk_norm else {}
    if spec.head_width * spec.num_heads != spec.width:
        ours["head_dim"] = spec.head_width
    return {
        **ours,
        **qwen.write_fields(spec),
        **qwen.write_window(spec),
        "architectures": ["DreamModel"],
        "bos_token_id": None,
        "model_type": "Dream",
        "pad_token_id": spec.eos_ids[0] if spec.eos_ids else None,
        "use_mrope": False,
    }


def convert_spec(source: ModelSpec, block_size: int | None) -> ModelSpec:
    """Return the spec of a Dream that continues an autoregressive model; it has no blocks."""
    if block_size is not None:
        raise ValueError(
            f"block_size = {block_size}: dream has full attention and no blocks; leave it out"
        )
    return replace(source, **CONVENTIONS)


def unpublished_parts(spec: ModelSpec) -> Iterator[str]:
    """Yield the parts of a spec that the published code lacks."""
    if spec.has_qk_norm:
        yield "norms of queries and keys (qk_norm = true)"
    if spec.head_width * spec.num_heads != spec.width:
        yield f"a head width other than {spec.width} / {spec.num_heads} (head_dim)"


FAMILY = Family(
    name="dream",
    architectures=("DreamModel",),
    model_type="Dream",
    default_mask_id=151666,
    read_spec=read_spec,
    new_config=new_config,
    modules=qwen.NAMES,
    tiny=tiny_spec("dream", **CONVENTIONS),
    preset="dream_official",
    reference_arguments="full",
    dllm_rl_presets={"dream": "dream_official"},
    conversion=Conversion("<|mask|>", convert_spec, unpublished_parts),
)
