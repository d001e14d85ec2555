"""Autoregressive checkpoints of one layout: Qwen2, Qwen3 and Llama, read for our backbone under a causal mask.

None of them is a diffusion model, so none is a `Family`: `convert` makes a diffusion model of one,
and a reward model runs one unchanged. Causal attention is block-causal attention in blocks of one
token.
"""

from pathlib import Path
from typing import Literal, TypedDict

from unmask.models.families import families
from unmask.models.families.config_file import spec_of_config
from unmask.models.families.family import Config, require
from unmask.models.families.qwen import read_fields
from unmask.models.spec import ModelSpec

Task = Literal["CausalLM", "SequenceClassification"]


class Conventions(TypedDict):
    """Whether queries, keys and values have biases, and queries and keys norms per head."""

    has_qkv_bias: bool
    has_qk_norm: bool


# The stem of a kind's class names, which in lower case is its `model_type`, and its conventions.
SOURCES: dict[str, Conventions] = {
    "Qwen2": {"has_qkv_bias": True, "has_qk_norm": False},
    "Qwen3": {"has_qkv_bias": False, "has_qk_norm": True},
    "Llama": {"has_qkv_bias": False, "has_qk_norm": False},
}


def source_of(config: Config, task: Task) -> Conventions:
    """Return the conventions of an autoregressive checkpoint.

    Raises:
        ValueError: naming the architecture and those supported.
    """
    stated = (config.get("architectures") or [config.get("model_type")])[0]
    for stem, conventions in SOURCES.items():
        if stated in (f"{stem}For{task}", stem.lower()):
            return conventions
    supported = ", ".join(f"{stem}For{task}" for stem in SOURCES)
    raise ValueError(
        f"config.json: the architecture {stated!r} is not supported; supported: {supported}"
    )


def read_source_spec(
    directory: Path, config: Config, kind: Conventions, family: str | None = None
) -> ModelSpec:
    """Read the spec of an autoregressive checkpoint: blocks of one token.

    Args:
        directory: where the config is from, for messages.
        config: its `config.json`.
        kind: the result of `source_of`.
        family: a family with the same names of tensors; by default the first that continues such
            checkpoints.

    Raises:
        ValueError: naming the key that is missing, or has a value that is not supported.
    """
    if family is None:
        family = next(f.name for f in families() if f.conversion is not None)
    require(config, attention_bias=False, mlp_bias=False)
    for layer in config.get("layer_types") or ():
        require({"layer_types": layer}, layer_types="full_attention")

    def read(config: Config) -> ModelSpec:
        heads = config["num_attention_heads"]
        # Configs of the first Llamas leave these out.
        config = {"rope_theta": 10000.0, "num_key_value_heads": heads, **config}
        return ModelSpec(
            **read_fields(config),
            family=family,
            **kind,
            block_size=1,
        )

    return spec_of_config(read, config, directory)
