"""`config.json`: the keys that any family reads, their types, and the relations between them.

One list serves all families, since a key means the same wherever it is read. A value that has the
right type and would still break the backbone (three heads on two key heads, more active experts than
there are) is refused in the spec, before a model is built from it. Wrong sizes are found when the spec
is compared with the weights' headers (`checkpoints/weights.py`).
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from unmask.models.families.family import Config
from unmask.models.families.json_keys import Keys, Size, TokenIds, read_json
from unmask.models.spec import ModelSpec

CONFIG = "config.json"

# Some configs state a negative id for none.
AnyId = Annotated[int, Field(gt=-(2**31), lt=2**31)]
Count = Annotated[int, Field(ge=0, le=2**20)]
Length = Annotated[int, Field(ge=1, lt=2**31)]
# Building a layer takes a millisecond even without memory for its weights.
Layers = Annotated[int, Field(ge=1, le=1000)]
Theta = Annotated[float, Field(ge=1, le=1e12)]
Factor = Annotated[float, Field(gt=0, le=1e6)]


class RopeKeys(Keys):
    """The keys of `rope_scaling` and `rope_parameters`."""

    rope_type: str = ""
    type: str = ""
    rope_theta: Theta = 1.0
    factor: Factor = 1.0
    low_freq_factor: Factor = 1.0
    high_freq_factor: Factor = 1.0
    original_max_position_embeddings: Length = 1


class TowerKeys(Keys):
    """The keys of `vision_config`."""

    model_type: str | None = None
    hidden_act: str | None = None
    hidden_size: Size = 1
    intermediate_size: Size = 1
    num_hidden_layers: Annotated[int, Field(ge=2, le=256)] = 2
    num_attention_heads: Size = 1
    image_size: Annotated[int, Field(ge=1, le=2**12)] = 1
    patch_size: Annotated[int, Field(ge=1, le=2**12)] = 1
    layer_norm_eps: Annotated[float, Field(gt=0, lt=1)] = 1e-6


class ConfigKeys(Keys):
    """The keys of every family; a default stands for an absent key and is never read."""

    architectures: list[str] | None = None
    model_type: str | None = None
    dtype: str | None = None
    torch_dtype: str | None = None

    num_hidden_layers: Layers = 1
    n_layers: Layers = 1
    hidden_size: Size = 1
    d_model: Size = 1
    num_attention_heads: Size = 1
    n_heads: Size = 1
    num_key_value_heads: Size = 1
    n_kv_heads: Size | None = None
    head_dim: Size | None = None
    intermediate_size: Size = 1
    dense_intermediate_size: Size = 1
    mlp_hidden_size: Size | None = None
    mlp_ratio: Size = 1
    vocab_size: Size = 1
    embedding_size: Size | None = None
    llm_vocab_size: Size | None = None
    max_position_embeddings: Length = 1
    max_sequence_length: Length = 1
    block_size: Size | None = None
    bd_size: Size | None = None

    num_experts: Size = 1
    num_experts_per_tok: Size = 1
    moe_intermediate_size: Size = 1
    expert_intermediate_size: Size = 1
    shared_expert_intermediate_size: Count | None = None
    num_shared_experts: Count | None = None
    first_k_dense_replace: Count = 0
    decoder_sparse_step: Size = 1
    mlp_only_layers: list[Count] | None = None
    n_group: Size = 1
    topk_group: Size = 1
    routed_scaling_factor: Factor = 1.0

    rms_norm_eps: Annotated[float, Field(ge=0, lt=1)] = 0.0
    rope_theta: Theta = 1.0
    rope_scaling: RopeKeys | None = None
    rope_parameters: RopeKeys | None = None
    partial_rotary_factor: Annotated[float, Field(gt=0, le=1)] = 1.0
    layer_types: list[str] | None = None

    attention_bias: bool = False
    include_qkv_bias: bool | None = None
    qk_norm: bool = False
    qk_layernorm: bool = False
    norm_topk_prob: bool | None = None
    moe_router_enable_expert_bias: bool | None = None
    multi_query_attention: bool | None = None
    tie_word_embeddings: bool = False
    weight_tying: bool = False

    image_token_ids: dict[str, Count] | None = None
    num_vq_tokens: Size = 1
    mm_vision_tower: str = ""
    mm_projector_type: str | None = None
    mm_patch_merge_type: str | None = None
    image_aspect_ratio: str | None = None
    image_grid_pinpoints: str | list[list[Annotated[int, Field(ge=1, le=10_000)]]] | None = None
    vision_config: TowerKeys | None = None

    mask_token_id: AnyId | None = None
    eos_token_id: TokenIds = None
    pad_token_id: AnyId | list[AnyId] | None = None


def read_config(directory: Path) -> dict[str, Any]:
    """Read a checkpoint's `config.json`.

    Raises:
        ValueError: naming the file, and the key whose value is of another type or out of range.
    """
    return read_json(directory / CONFIG, ConfigKeys)


def spec_of_config(
    read: Callable[[Config], ModelSpec], config: Config, directory: Path
) -> ModelSpec:
    """Return the spec that a family reads from a config.

    Args:
        read: the reader.
        config: the result of `read_config`.
        directory: its directory, for messages.

    Raises:
        ValueError: naming the key that is missing, or the keys that contradict each other.
    """
    try:
        spec = read(config)
    except KeyError as error:
        raise ValueError(f"{directory / CONFIG} lacks the key {error}") from None
    for problem in _contradictions(spec):
        raise ValueError(f"{directory / CONFIG}: {problem}")
    return spec


def _contradictions(spec: ModelSpec) -> Iterator[str]:
    heads, kv_heads = spec.num_heads, spec.num_kv_heads
    if heads % kv_heads:
        yield (
            f"{heads} heads (num_attention_heads, n_heads) must be a multiple of the {kv_heads} "
            "of keys and values (num_key_value_heads, n_kv_heads)"
        )
    rotated = spec.head_width if spec.rotary_width is None else spec.rotary_width
    if rotated < 2 or rotated % 2:
        yield (
            f"{rotated} dimensions of a head are rotated (head_dim, or the width over the heads, times "
            "partial_rotary_factor): must be an even number"
        )
    if (moe := spec.moe) is None:
        return
    groups, active_groups = moe.num_groups, moe.num_active_groups
    size, rest = divmod(moe.num_experts, groups)
    # A group's rank is the sum of its two best experts.
    if rest or (moe.router == "grouped_sigmoid" and size < 2):
        yield (
            f"num_experts = {moe.num_experts} is not shared out over n_group = {groups} in at least twos"
        )
    if active_groups > groups:
        yield f"topk_group = {active_groups}: there are n_group = {groups}"
    if moe.num_active > active_groups * size:
        yield (
            f"num_experts_per_tok = {moe.num_active}: only {active_groups * size} experts can be chosen "
            "(num_experts, n_group, topk_group)"
        )
