"""The record of a checkpoint family, and the helpers that its file reads a `config.json` with.

Everything that distinguishes one family from another is data in its own file of this folder; the
backbone is built from a `ModelSpec` and never reads a name. A config that asks for something the
backbone does not do is refused by name.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from unmask.models.families.json_keys import shortened
from unmask.models.spec import ModelSpec, MoESpec, RopeScaling

Config = Mapping[str, Any]
# The part of a name that is the index of a layer.
NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
# What the reference code's `forward` takes besides the token ids of a whole text: `none`; `full`, the
# string as `attention_mask`; `seen`, a mask `(1, 1, L, L)` that is 1 where a key is seen, and positions;
# `added`, that mask as 0 and minus infinity, and positions; `block_size`, the length of a block.
ReferenceArguments = Literal["none", "full", "seen", "added", "block_size"]


@dataclass(frozen=True, slots=True)
class Conversion:
    """How a family continues an autoregressive checkpoint (`checkpoints/convert.py`).

    Attributes:
        mask_text: text of the mask token where the tokenizer has none.
        convert_spec: the causal spec and the block size asked for, to the spec of the result;
            ValueError for a block size the family cannot have.
        unpublished_parts: of a spec, the parts that the published code of the family lacks.
    """

    mask_text: str
    convert_spec: Callable[[ModelSpec, int | None], ModelSpec]
    unpublished_parts: Callable[[ModelSpec], Iterator[str]]


@dataclass(frozen=True, slots=True)
class Family:
    """One published kind of checkpoint.

    Attributes:
        name: the name of its file, or `module:OBJECT` for a family outside this package.
        architectures: class names in `architectures[0]`, the usual one first.
        model_type: its `model_type`, which decides only between families of one architecture, or
            where no architecture is stated.
        default_mask_id: mask id of the released checkpoints, for configs that leave it out.
        block_key: config key of the block size; `None` where configs do not state it.
        mask_key: config key of the mask id.
        read_spec: config to spec; a missing key is a `KeyError`, a value that the backbone does not
            support a `ValueError`.
        new_config: spec to the config of a model made from scratch.
        modules: our module names to the checkpoint's; `{i}` stands for the layer, `{e}` for the
            expert, whose tensors we hold stacked. Several of ours may have one name: the
            checkpoint holds them fused, one below the other. A parameter that is stored elsewhere
            than its module has an entry under its whole name.
        tiny: spec of a small random model, which `unmask init` writes or enlarges (`tiny_spec`).
        preset: its published sampler, a name in `presets.py`.
        reference_arguments: what its published code takes, for `unmask verify --published`.
        dllm_rl_presets: for each `model_base` of dLLM-RL's configs that is this family, the sampler
            used there, a name in `presets.py`.
        conversion: how it continues an autoregressive checkpoint; `None` if it does not.
        system: the system turn of conversations that have none.
    """

    name: str
    architectures: tuple[str, ...]
    model_type: str
    default_mask_id: int
    read_spec: Callable[[Config], ModelSpec]
    new_config: Callable[[ModelSpec], dict[str, Any]]
    modules: Mapping[str, str]
    tiny: ModelSpec
    preset: str
    reference_arguments: ReferenceArguments
    block_key: str | None = None
    mask_key: str = "mask_token_id"
    dllm_rl_presets: Mapping[str, str] = field(default_factory=dict[str, str])
    conversion: Conversion | None = None
    system: str | None = None

    def weight_name(self, parameter: str) -> str:
        """Return the checkpoint's name of our `backbone.layers.3.attention.q.weight`, say; experts stay `{e}`."""
        layer = NUMBER.search(parameter)
        pattern = NUMBER.sub("{i}", parameter)
        module, _, leaf = pattern.rpartition(".")
        name = self.modules.get(pattern) or f"{self.modules[module]}.{leaf}"
        return name.replace("{i}", layer[0] if layer else "")


TINY_MOE = MoESpec(layers=(0, 1), num_experts=8, num_active=2, width=32)


def tiny_spec(family: str, **fields: Any) -> ModelSpec:
    """Return the spec of two narrow layers, for a tokenizer whose ids 0 and 1 are `<eos>` and `<mask>`.

    Args:
        family: its name.
        fields: its conventions; every field of a `ModelSpec` may be given.
    """
    shape: dict[str, Any] = {
        "num_layers": 2,
        "width": 64,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_width": 16,
        "ffn_width": 192,
        "vocab_size": 258,
        "num_drawable": 258,
        "max_length": 2048,
        "rope_theta": 1e4,
        "norm_eps": 1e-6,
        "is_tied": False,
        "mask_id": 1,
        "eos_ids": (0,),
        "block_size": None,
    }
    return ModelSpec(family=family, **shape | fields)


def require(config: Config, **needed: object) -> None:
    """Refuse a config that states another value than the only supported one; an absent key or a null is fine.

    Dropouts are not checked: inference and training here have none, whatever the config states.

    Raises:
        ValueError: naming the key, its value and the value supported.
    """
    for key, value in needed.items():
        stated = config.get(key)
        if stated is not None and stated != value:
            raise ValueError(
                f"config.json: {key} = {shortened(stated)}: only {shortened(value)} is supported"
            )


def rope_theta(config: Config) -> float:
    """Return the rotary base of a family whose released checkpoints never scale rotary positions.

    Raises:
        KeyError: if it is missing.
        ValueError: if the rotary positions are scaled.
    """
    theta, scaling = rope(config)
    if scaling is not None:
        raise ValueError("config.json: rope type 'llama3': only 'default' is supported")
    return theta


def rope(config: Config) -> tuple[float, RopeScaling | None]:
    """Return the rotary base and its scaling: in `rope_parameters` (transformers 5), else `rope_scaling`.

    Raises:
        KeyError: if the base, or a number of the scaling, is missing.
        ValueError: if the scaling is of a kind that is not supported, or its bounds are reversed.
    """
    stated = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = float(stated["rope_theta"] if "rope_theta" in stated else config["rope_theta"])
    kind = stated.get("rope_type", stated.get("type", "default"))
    if kind == "default":
        return theta, None
    if kind != "llama3":
        raise ValueError(
            f"config.json: rope type {kind!r}: only 'default' and 'llama3' are supported"
        )
    low, high = float(stated["low_freq_factor"]), float(stated["high_freq_factor"])
    if high <= low:
        raise ValueError(
            f"config.json: high_freq_factor = {high}: must be above low_freq_factor = {low}"
        )
    length = stated["original_max_position_embeddings"]
    return theta, RopeScaling(float(stated["factor"]), low, high, length)


def rope_fields(scaling: RopeScaling | None) -> dict[str, Any] | None:
    """Return the value of `rope_scaling` in a config: the inverse of `rope`."""
    if scaling is None:
        return None
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_factor,
        "high_freq_factor": scaling.high_factor,
        "original_max_position_embeddings": scaling.original_length,
    }


def token_ids(value: int | list[int] | None) -> tuple[int, ...]:
    """Return the ids of a config value that may be one id, several or none."""
    if value is None:
        return ()
    return (value,) if isinstance(value, int) else tuple(value)


def id_value(ids: tuple[int, ...]) -> int | list[int] | None:
    """Return the config value of these ids: the inverse of `token_ids`."""
    return ids[0] if len(ids) == 1 else list(ids) or None
