"""Stand-ins for published modelling code: thin subclasses of transformers' own models, under a family's names.

They take what the published ones take: SDAR a 4-D mask of 0 and 1, Dream the word "full", Fast-dLLM v2
the length of a block. Each refuses anything else, so a wrong argument is an error and no small number.
"""

import shutil
from pathlib import Path

from tests.models.toy import GOLDEN

# The first lines leave a mark, by which a test sees whether the code was run.
MARK = """
from pathlib import Path
import torch
Path({place!r}, "was_run").touch()
"""

CONFIGURATION = """
from transformers import {base}Config


class {name}({base}Config):
    model_type = "{model_type}"

    def __init__(self, **fields):
        fields.pop("attn_implementation", None)
        super().__init__(**fields)
"""

MODELING = """
from transformers import {base}ForCausalLM
from .{configuration} import {config}


def bias(seen, model):
    added = torch.zeros(seen.shape, dtype=model.dtype, device=seen.device)
    return added.masked_fill(~seen.bool(), torch.finfo(model.dtype).min)


class {name}({base}ForCausalLM):
    config_class = {config}

    def forward(self, input_ids, {arguments}):
        {seen}
        return super().forward(
            input_ids=input_ids, attention_mask=bias(seen, self), use_cache=False, {more}
        )
"""

SEEN = {
    "sdar": """
        assert attention_mask.dim() == 4 and set(attention_mask.unique().tolist()) <= {0, 1}
        seen = attention_mask
    """,
    "dream": """
        assert attention_mask == "full"
        length = input_ids.shape[1]
        seen = torch.ones(1, 1, length, length)
    """,
    "fast_dllm_v2": """
        blocks = torch.arange(input_ids.shape[1]) // block_size
        seen = (blocks[None, :] <= blocks[:, None])[None, None]
    """,
}
PARTS = {
    "sdar": {
        "base": "Qwen3",
        "name": "SDARForCausalLM",
        "config": "SDARConfig",
        "configuration": "configuration_sdar",
        "modeling": "modeling_sdar",
        "model_type": "sdar",
        "arguments": "attention_mask, position_ids",
        "more": "position_ids=position_ids",
    },
    "dream": {
        "base": "Qwen2",
        "name": "DreamModel",
        "config": "DreamConfig",
        "configuration": "configuration_dream",
        "modeling": "modeling_dream",
        "model_type": "Dream",
        "arguments": "attention_mask",
        "more": "",
    },
    "fast_dllm_v2": {
        "base": "Qwen2",
        "name": "Fast_dLLM_QwenForCausalLM",
        "config": "Fast_dLLM_QwenConfig",
        "configuration": "configuration",
        "modeling": "modeling",
        "model_type": "Fast_dLLM_Qwen",
        "arguments": "block_size",
        "more": "",
    },
}


def with_code(family: str, place: Path, then: str = "") -> Path:
    """Copy a golden checkpoint and put code next to it; `then` is a line run after it made `seen`."""
    parts = PARTS[family]
    place.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(GOLDEN / family / name, place / name)
    configuration = CONFIGURATION.format(**parts | {"name": parts["config"]})
    (place / f"{parts['configuration']}.py").write_text(configuration)
    seen = "\n        ".join([*(line.strip() for line in SEEN[family].splitlines()), then])
    modeling = MARK.format(place=str(place)) + MODELING.format(**parts, seen=seen)
    (place / f"{parts['modeling']}.py").write_text(modeling)
    return place
