"""What a family is: how its `config.json` reads, and what its tensors are called.

Everything that tells one published checkpoint from another is data in one file beside this one; the
backbone never asks for a name. A config that asks for something the backbone does not do is refused
by name rather than run without.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from unmask.models.families.json_keys import shortened
from unmask.models.spec import ModelSpec, RopeScaling

Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Family:
    """One published kind of checkpoint.

    Attributes:
        name: what specs, messages and our own configs call it.
        architectures: class names it goes by in `architectures[0]`, the usual one first.
        model_type: its `model_type`, which decides only between families of one architecture, or
            where none is named: families share them too.
        default_mask_id: mask id of the released checkpoints, for configs that leave it out.
        block_key: config key of the block size; `None` where configs say nothing of it.
        mask_key: config key of the mask id.
        read_spec: config to spec; a missing key is a `KeyError`, a value we cannot honour a
            `ValueError`.
        new_config: spec to the config of a model made from scratch.
        modules: our module names to the checkpoint's; `{i}` stands for the layer, `{e}` for the
            expert, whose tensors we hold stacked. Several of ours may have one name: the
            checkpoint holds them fused, one below the other. A parameter of another place than
            its module is named whole.
    """

    name: str
    architectures: tuple[str, ...]
    model_type: str
    default_mask_id: int
    block_key: str | None
    mask_key: str
    read_spec: Callable[[Config], ModelSpec]
    new_config: Callable[[ModelSpec], dict[str, Any]]
    modules: Mapping[str, str]

    def weight_name(self, parameter: str) -> str:
        """Return the checkpoint's name of our `backbone.layers.3.attention.q.weight`, say; experts stay `{e}`."""
        layer = re.search(r"\d+", parameter)
        pattern = re.sub(r"\d+", "{i}", parameter)
        module, _, leaf = pattern.rpartition(".")
        name = self.modules.get(pattern) or f"{self.modules[module]}.{leaf}"
        return name.replace("{i}", layer[0] if layer else "")


def require(config: Config, **needed: object) -> None:
    """Refuse a config that states another value than the only supported one; an absent key or a null is fine.

    Dropouts are not asked for: inference and training here have none, whatever the config states.

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
        KeyError: if it is not there.
        ValueError: if the rotary positions are scaled.
    """
    theta, scaling = rope(config)
    if scaling is not None:
        raise ValueError("config.json: rope type 'llama3': only 'default' is supported")
    return theta


def rope(config: Config) -> tuple[float, RopeScaling | None]:
    """Return the rotary base and its scaling: in `rope_parameters` (transformers 5), else `rope_scaling`.

    Raises:
        KeyError: if the base, or a number of the scaling, is not there.
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
    """Return what a config states as `rope_scaling`: the reverse of `rope`."""
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
    """Return what a config says for these ids; `token_ids` reads it back."""
    return ids[0] if len(ids) == 1 else list(ids) or None
