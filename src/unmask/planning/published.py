"""Shapes of the published SDAR and TraDo models, so that a plan needs no checkpoint.

The numbers are those of the released `config.json` files (Cheng et al., "SDAR", 2025; TraDo is SDAR after
reinforcement learning and has the same shapes). Vocabularies include the padding rows of the files.
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
}
# A directory or hub id such as JetLM/SDAR-1.7B-Chat-b32: shape, and block size where it is in the name.
NAME = re.compile(r"(?:SDAR|TraDo)-(1\.7B|4B|8B|30B-A3B)(?:-[A-Za-z]+)*?(?:-b(\d+))?$")


def published_shape(path: str) -> ModelSpec | None:
    """Return the shape of the published model that a path or hub id names; `None` for any other."""
    found = NAME.search(path)
    if found is None:
        return None
    spec = SHAPES[found[1]]
    return spec if found[2] is None else replace(spec, block_size=int(found[2]))
