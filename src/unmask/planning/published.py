"""Shapes of the published models that the recipes train, so that a plan needs no checkpoint.

The numbers are those of the released `config.json` files (Cheng et al., "SDAR", 2025; TraDo is SDAR after
reinforcement learning and has the same shapes; Nie et al., "LLaDA", and Ye et al., "Dream 7B", 2025, whose successors
have the same shapes). Vocabularies include the padding rows of the files.
"""

import re
from dataclasses import replace

from unmask.models.spec import ModelSpec, MoESpec

_SMALLEST = ModelSpec(
    family="sdar",
    num_layers=28,
    width=2048,
    num_heads=16,
    num_kv_heads=8,
    head_width=128,
    ffn_width=6144,
    vocab_size=151_936,
    max_length=32_768,
    rope_theta=1e6,
    norm_eps=1e-6,
    is_tied=False,
    mask_id=151_669,
    block_size=4,
    num_drawable=151_670,
    eos_ids=(151_643,),
    has_qk_norm=True,
)
SHAPES = {
    "1.7B": _SMALLEST,
    "4B": replace(_SMALLEST, num_layers=36, width=2560, num_heads=32, ffn_width=9728),
    "8B": replace(_SMALLEST, num_layers=36, width=4096, num_heads=32, ffn_width=12_288),
    "30B-A3B": replace(
        _SMALLEST,
        family="sdar_moe",
        num_layers=48,
        num_heads=32,
        num_kv_heads=4,
        moe=MoESpec(tuple(range(48)), num_experts=128, num_active=8, width=768, renormalises=True),
    ),
    "LLaDA-8B": replace(
        _SMALLEST,
        family="llada",
        num_layers=32,
        width=4096,
        num_heads=32,
        num_kv_heads=32,
        ffn_width=12_288,
        vocab_size=126_464,
        max_length=4096,
        rope_theta=5e5,
        norm_eps=1e-5,
        mask_id=126_336,
        block_size=32,
        num_drawable=126_349,
        eos_ids=(126_081,),
        has_qk_norm=False,
        attention="full",
    ),
    "Dream-7B": replace(
        _SMALLEST,
        family="dream",
        width=3584,
        num_heads=28,
        num_kv_heads=4,
        ffn_width=18_944,
        vocab_size=152_064,
        max_length=131_072,
        mask_id=151_666,
        block_size=None,
        num_drawable=151_667,
        has_qk_norm=False,
        has_qkv_bias=True,
        attention="full",
        is_shifted=True,
    ),
}
# A directory or hub id such as JetLM/SDAR-1.7B-Chat-b32: shape, and block size where it is in the name.
NAME = re.compile(r"(?:SDAR|TraDo)-(1\.7B|4B|8B|30B-A3B)(?:-[A-Za-z]+)*?(?:-b(\d+))?$")
FULL_NAMES = {
    "LLaDA-8B": re.compile(r"LLaDA-(?:8B-(?:Base|Instruct)|1\.5)$"),
    "Dream-7B": re.compile(r"(?:Dream|Dream-Coder)-v0-(?:Base|Instruct)-7B$|DiffuCoder-7B-\w+$"),
}


def published_shape(path: str) -> ModelSpec | None:
    """Return the shape of the published model that a path or hub id names; `None` for any other."""
    found = NAME.search(path)
    if found is None:
        return next(
            (SHAPES[shape] for shape, name in FULL_NAMES.items() if name.search(path)), None
        )
    spec = SHAPES[found[1]]
    return spec if found[2] is None else replace(spec, block_size=int(found[2]))
