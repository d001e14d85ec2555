"""Autoregressive checkpoints of one layout: Qwen2, Qwen3 and Llama, read for our backbone under a causal mask.

None of them is a diffusion model, so none is a `Family`: `convert` makes a diffusion model of one,
and a reward model runs one unchanged. Causal attention is block-causal attention in blocks of one
token.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unmask.models.families import families
from unmask.models.families.config_file import spec_of_config
from unmask.models.families.family import Config, require
from unmask.models.families.qwen import read_fields
from unmask.models.spec import ModelSpec

Task = Literal["CausalLM", "SequenceClassification"]


@dataclass(frozen=True, slots=True)
class Source:
    """A kind of autoregressive checkpoint.

    Attributes:
        class_stem: the part of its class names before `For` and the task.
        model_type: its `model_type`, which decides where no class is named.
        has_qkv_bias: whether queries, keys and values have biases.
        has_qk_norm: whether queries and keys are normed per head.
    """

    class_stem: str
    model_type: str
    has_qkv_bias: bool
    has_qk_norm: bool

    def architecture(self, task: Task) -> str:
        """Return the name of its class for a task."""
        return f"{self.class_stem}For{task}"


SOURCES = (
    Source("Qwen2", "qwen2", has_qkv_bias=True, has_qk_norm=False),
    Source("Qwen3", "qwen3", has_qkv_bias=False, has_qk_norm=True),
    Source("Llama", "llama", has_qkv_bias=False, has_qk_norm=False),
)


def source_of(config: Config, task: Task) -> Source:
    """Return the kind of an autoregressive checkpoint.

    Raises:
        ValueError: naming the architecture and those supported.
    """
    stated = (config.get("architectures") or [config.get("model_type")])[0]
    for source in SOURCES:
        if stated in (source.architecture(task), source.model_type):
            return source
    supported = ", ".join(source.architecture(task) for source in SOURCES)
    raise ValueError(
        f"config.json: the architecture {stated!r} is not supported; supported: {supported}"
    )


def read_source_spec(
    directory: Path, config: Config, kind: Source, family: str | None = None
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
            ffn_width=config["intermediate_size"],
            has_qkv_bias=kind.has_qkv_bias,
            has_qk_norm=kind.has_qk_norm,
            block_size=1,
        )

    return spec_of_config(read, config, directory)
