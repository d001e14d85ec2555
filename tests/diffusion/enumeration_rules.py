"""Samplers that are enumerated, by name: everything whose moves have a likelihood."""

from typing import Any

from tests.diffusion.enumeration import Toy
from unmask.sampling_params import SamplingParams

STOP = {"stop_token_ids": (0,)}
BLOCKS = {"block_size": 2}
COOL = {"temperature": 0.7}

STATIC = {"strategy": "static"}
DYNAMIC = {"strategy": "dynamic", "threshold": 0.7}
RULES: dict[str, dict[str, Any]] = {
    "static": STATIC,
    "static, cool": STATIC | COOL,
    "static, ranked by the proposal": STATIC | COOL | {"confidence": "filtered"},
    "static, two steps": STATIC | {"denoising_steps": 2},
    "static, one step": STATIC | {"denoising_steps": 1},
    "static, sub-blocks": STATIC | {"sub_block_size": 2},
    "static, blocks": STATIC | BLOCKS,
    "static, early stop": STATIC | STOP,
    "static, remask": STATIC | {"remask_threshold": 0.3},
    "dynamic": DYNAMIC,
    "dynamic, low": DYNAMIC | COOL | {"threshold": 0.4},
    "dynamic, blocks, early stop": DYNAMIC | BLOCKS | STOP | {"threshold": 0.5},
    "factor": {"strategy": "factor", "factor": 1.0},
    "factor, wide, cool": {"strategy": "factor", "factor": 1.5} | COOL,
    "margin": {"strategy": "margin"},
    "margin, cool": {"strategy": "margin"} | COOL,
    "entropy": {"strategy": "entropy"},
    "entropy, blocks": {"strategy": "entropy"} | BLOCKS,
    "entropy, early stop": {"strategy": "entropy"} | STOP,
    "entropy, remask": {"strategy": "entropy", "remask_threshold": 0.3},
    "entropy_bounded": {"strategy": "entropy_bounded", "entropy_bound": 0.8},
    "random": {"strategy": "random"},
    "left_to_right": {"strategy": "left_to_right"},
    "left_to_right, remask": {"strategy": "left_to_right", "remask_threshold": 0.3},
}
EDITS: dict[str, dict[str, Any]] = {
    "dynamic, edits": DYNAMIC | {"edit_threshold": 0.5},
    "static, edits, cool": STATIC | COOL | {"edit_threshold": 0.5},
    "left_to_right, edits": {"strategy": "left_to_right", "edit_threshold": 0.5},
    "entropy, edits": {"strategy": "entropy", "edit_threshold": 0.4},
    "entropy, edits, remask": {
        "strategy": "entropy",
        "edit_threshold": 0.6,
        "remask_threshold": 0.2,
    },
}
# Under these the tokens that are revealed are all that a move has to be scored by.
EXACT = {
    name for name in RULES if RULES[name]["strategy"] not in ("static", "dynamic", "factor")
} | {"static, one step"}


def toy_of(name: str, vocabulary: int, canvas: int) -> Toy:
    """Return a sampler by name; those that edit take at most four passes over two positions."""
    given = {"block_size": canvas, "max_tokens": canvas, "stop_token_ids": (), "max_edit_steps": 2}
    return Toy(vocabulary, canvas, SamplingParams(**{**given, **(RULES | EDITS)[name]}))
