"""Published samplers by name: the `SamplingParams` that reproduce them.

A preset is a set of values; other settings override it. Each preset is tested token for token against
recorded traces of the program it is named after, at temperature 0 where the program's draws cannot be
repeated. Known bugs of those programs (tokens overwritten, crashes) are not reproduced; `docs/methods.md`
lists them.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from unmask.sampling_params import SamplingParams

_SDAR = {"strategy": "dynamic", "threshold": 0.9, "schedule": "block", "confidence": "filtered"}
_STATIC = {"strategy": "static", "temperature": 0.0}
_DYNAMIC = {"strategy": "dynamic", "temperature": 0.0}
# The time grid over the whole response.
_GRID = {"schedule": "linear", "confidence": "filtered"}

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # SDAR's and TraDo's `block_diffusion_generate`, and dLLM-RL's rollout engine.
        "sdar": _SDAR,
        "sdar_static": _SDAR | {"strategy": "static"},
        # Its `entropy_bounded` counts the entropy of every position it reveals (`eb_threshold`).
        "dllm_rl_jetengine": _SDAR | {"entropy_bound": 0.35, "entropy_sum": "inclusive"},
        # LLaDA's `generate.py` and MMaDA's: greedy, a fixed quota per step.
        "llada_official": _STATIC,
        "mmada_official": _STATIC,
        # LLaDA-V's own `generate`: greedy, and never a header.
        "lladav_official": _STATIC,
        # MMaDA's text-to-image, as its README runs it.
        "mmada_image": {
            "strategy": "gumbel",
            "schedule": "cosine",
            "denoising_steps": 15,
            "guidance": 3.5,
            "writes": "image",
        },
        # Fast-dLLM's parallel decoding of LLaDA, and the rule its paper proves.
        "fastdllm_v1": _DYNAMIC | {"threshold": 0.9},
        "fastdllm_factor": {"strategy": "factor", "factor": 1.0, "temperature": 0.0},
        # Dream's `diffusion_generate`, and DiffuCoder's settings of it.
        "dream_official": _STATIC | _GRID,
        "diffucoder_official": _GRID | {"strategy": "entropy", "temperature": 0.3, "top_p": 0.95},
        "llada2": _DYNAMIC | {"threshold": 0.95, "schedule": "block"},
        # LLaDA2.1's quality mode: a low threshold, and edits of written tokens.
        "llada2_1": _DYNAMIC | {"threshold": 0.7, "edit_threshold": 0.5, "max_edit_steps": 16},
        "fastdllm_v2": _DYNAMIC | {"threshold": 0.9},
        "sglang_lowconf": _DYNAMIC | {"threshold": 0.95},
    }
)


def preset(name: str, **changes: Any) -> SamplingParams:
    """Return a published sampler's parameters, overridden by `changes`.

    Raises:
        ValueError: if no preset has that name.
    """
    if name not in PRESETS:
        raise ValueError(f"preset = {name!r}: must be one of {', '.join(PRESETS)}")
    return replace(SamplingParams(**PRESETS[name]), **changes)
