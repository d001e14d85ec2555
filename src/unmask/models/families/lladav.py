"""LLaDA-V: LLaDA-8B with Llama's names, and a vision side of SigLIP, a projector and any-resolution tiles.

An image takes as many positions as it has vectors (`models/vision/lladav.py`). Released checkpoints state LLaVA's
`model_type`, and the class of LLaDA's text model. The sizes of the tower are those of the name it has, unless
`vision_config` states them, as tiny models do; its number of layers counts the last one, which is not stored.

You et al., "LLaDA-V: Large Language Diffusion Models with Visual Instruction Tuning" (2025).
"""

import re
from typing import Any

from unmask.models.families import qwen
from unmask.models.families.family import Config, Family, require, tiny_spec
from unmask.models.spec import ModelSpec
from unmask.models.vision.lladav import LladavVisionSpec
from unmask.models.vision.siglip import SiglipSpec

CONVENTIONS: dict[str, Any] = {
    "attention": "full",
    "has_qkv_bias": False,
    "has_qk_norm": False,
    "block_size": 32,
}
SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that "
    "the user provides, and assist the user with a variety of tasks using natural language."
)
TOWER = "model.vision_tower.vision_tower.vision_model"
TOWER_LAYER = "backbone.vision.tower.encoder.layers.{i}"
IN_TOWER_LAYER = (
    *(f"self_attn.{part}_proj" for part in ("q", "k", "v", "out")),
    *("layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2"),
)
VISION_NAMES = {
    "backbone.vision.tower.patches": f"{TOWER}.embeddings.patch_embedding",
    "backbone.vision.tower.positions": f"{TOWER}.embeddings.position_embedding",
    **{f"{TOWER_LAYER}.{part}": f"{TOWER}.encoder.layers.{{i}}.{part}" for part in IN_TOWER_LAYER},
    "backbone.vision.tower.post_layernorm": f"{TOWER}.post_layernorm",
    "backbone.vision.projector.{i}": "model.mm_projector.{i}",
    "backbone.vision.newline": "model.image_newline",
}


def read_spec(config: Config) -> ModelSpec:
    """Read a LLaDA-V config; see `Family.read_spec`."""
    return ModelSpec(
        **qwen.read_fields(config), **CONVENTIONS, family="lladav", vision=read_vision(config)
    )


def read_vision(config: Config) -> LladavVisionSpec:
    """Return the sizes of the vision side.

    Raises:
        ValueError: naming the key whose value is not supported.
    """
    require(config, mm_projector_type="mlp2x_gelu", mm_patch_merge_type="spatial_unpad")
    name, width = config.get("mm_vision_tower", ""), config["hidden_size"]
    if "siglip" not in name:
        raise ValueError(f"config.json: mm_vision_tower = {name!r}: only SigLIP is read")
    tower, aspect = read_tower(config.get("vision_config") or {}), config.get("image_aspect_ratio")
    if aspect in (None, "pad"):
        return LladavVisionSpec(width, tower)
    limit = re.fullmatch(r"anyres_max_(\d{1,3})", aspect)
    if limit is None or limit[1] == "0":
        raise ValueError(
            f"config.json: image_aspect_ratio = {aspect!r}: must be pad or anyres_max_N"
        )
    grids = read_grids(config.get("image_grid_pinpoints"), tower.image_size)
    return LladavVisionSpec(width, tower, grids, int(limit[1]))


def read_tower(sizes: Config) -> SiglipSpec:
    """Return the sizes of a tower; those that are not stated are the released one's."""
    require(sizes, model_type="siglip_vision_model", hidden_act="gelu_pytorch_tanh")
    usual = SiglipSpec()
    tower = SiglipSpec(
        width=sizes.get("hidden_size", usual.width),
        ffn_width=sizes.get("intermediate_size", usual.ffn_width),
        num_layers=sizes.get("num_hidden_layers", usual.num_layers + 1) - 1,
        num_heads=sizes.get("num_attention_heads", usual.num_heads),
        image_size=sizes.get("image_size", usual.image_size),
        patch_size=sizes.get("patch_size", usual.patch_size),
        norm_eps=sizes.get("layer_norm_eps", usual.norm_eps),
    )
    if tower.width % tower.num_heads or tower.side < 1:
        raise ValueError(
            "config.json: vision_config: hidden_size must be a multiple of num_attention_heads, and "
            "image_size at least patch_size"
        )
    return tower


def read_grids(stated: str | list[list[int]] | None, tile: int) -> tuple[tuple[int, int], ...]:
    """Return grid sizes from a list of them, or from the first and last of `(1x1),...,(6x6)` in tiles."""
    if isinstance(stated, str):
        ends = [(int(x), int(y)) for x, y in re.findall(r"\((\d{1,2})x(\d{1,2})\)", stated)]
        (left, top), (right, bottom) = (ends[0], ends[-1]) if ends else ((1, 1), (0, 0))
        columns, rows = range(left, right + 1), range(top, bottom + 1)
        stated = [[x * tile, y * tile] for x in columns for y in rows]
    sizes = [(size[0], size[1]) for size in stated or [] if len(size) == 2]
    is_whole = all(x % tile == 0 < x and y % tile == 0 < y for x, y in sizes)
    if not sizes or len(sizes) < len(stated or []) or not is_whole:
        raise ValueError(
            f"config.json: image_grid_pinpoints must be pairs of multiples of {tile}, the pixels of a tile, "
            "or (1x1),...,(6x6)"
        )
    return tuple(sizes)


def new_config(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of a released config, and the sizes of the tower."""
    assert spec.vision is not None, "as every LLaDA-V"
    vision, tower = spec.vision, spec.vision.tower
    grids = vision.grids
    return {
        **qwen.write_fields(spec),
        "architectures": ["LlavaLLaDAModelLM"],
        "attention_bias": False,
        "image_aspect_ratio": "pad" if grids is None else f"anyres_max_{vision.most_tiles}",
        "image_grid_pinpoints": grids and [list(size) for size in grids],
        "mm_hidden_size": tower.width,
        "mm_patch_merge_type": "spatial_unpad",
        "mm_projector_type": "mlp2x_gelu",
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": "google/siglip2-so400m-patch14-384",
        "model_type": "llava_llada",
        "vision_config": {
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_size": tower.width,
            "image_size": tower.image_size,
            "intermediate_size": tower.ffn_width,
            "layer_norm_eps": tower.norm_eps,
            "model_type": "siglip_vision_model",
            "num_attention_heads": tower.num_heads,
            "num_hidden_layers": tower.num_layers + 1,
            "patch_size": tower.patch_size,
        },
    }


TINY_TOWER = SiglipSpec(
    width=64, ffn_width=128, num_layers=2, num_heads=4, image_size=32, patch_size=8
)

FAMILY = Family(
    name="lladav",
    architectures=("LlavaLLaDAModelLM", "LLaDAModelLM"),
    model_type="llava_llada",
    default_mask_id=126336,
    read_spec=read_spec,
    new_config=new_config,
    modules={**qwen.NAMES, **VISION_NAMES},
    tiny=tiny_spec("lladav", **CONVENTIONS, vision=LladavVisionSpec(64, TINY_TOWER)),
    preset="lladav_official",
    reference_arguments="none",
    dllm_rl_presets={"lladav": "lladav_official"},
    system=SYSTEM,
)
