"""What a family is: how its `config.json` reads, and what its tensors are called.

Everything that tells one published checkpoint from another is data in one file beside this one; the
backbone never asks for a name. A config that asks for something the backbone does not do is refused
by name rather than run without.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from unmask.models.spec import ModelSpec

Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Family:
    """One published kind of checkpoint.

    Attributes:
        name: what specs, messages and our own configs call it.
        architectures: class names it goes by in `architectures[0]`, the usual one first.
        model_type: its `model_type`, asked only when no architecture is named, because families
            share them.
        default_mask_id: mask id of the released checkpoints, for configs that leave it out.
        block_key: config key of the block size.
        mask_key: config key of the mask id.
        read_spec: config to spec; a missing key is a `KeyError`, a value we cannot honour a
            `ValueError`.
        new_config: spec to the config of a model made from scratch.
        modules: our module names to the checkpoint's; `{i}` stands for the layer.
    """

    name: str
    architectures: tuple[str, ...]
    model_type: str
    default_mask_id: int
    block_key: str
    mask_key: str
    read_spec: Callable[[Config], ModelSpec]
    new_config: Callable[[ModelSpec], dict[str, Any]]
    modules: Mapping[str, str]

    def weight_name(self, parameter: str) -> str:
        """Return the checkpoint's name of our `backbone.layers.3.attention.q.weight`, say."""
        module, _, leaf = parameter.rpartition(".")
        layer = re.search(r"\d+", module)
        name = self.modules[re.sub(r"\d+", "{i}", module)]
        return f"{name.format(i=layer[0] if layer else '')}.{leaf}"


def require(config: Config, **needed: object) -> None:
    """Refuse a config that states another value than the only one we do; an absent key is fine.

    Raises:
        ValueError: naming the key, its value and the value supported.
    """
    for key, value in needed.items():
        if config.get(key, value) != value:
            raise ValueError(f"config.json: {key} = {config[key]!r}: only {value!r} is supported")


def rope_theta(config: Config) -> float:
    """Return the rotary base: inside `rope_parameters` (transformers 5), else `rope_theta` itself.

    Raises:
        KeyError: if neither is there.
        ValueError: if the rotary positions are scaled; no released checkpoint does that.
    """
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise ValueError(f"config.json: rope type {kind!r}: only 'default' is supported")
    return float(rope["rope_theta"] if "rope_theta" in rope else config["rope_theta"])


def token_ids(value: int | list[int] | None) -> tuple[int, ...]:
    """Return the ids of a config value that may be one id, several or none."""
    if value is None:
        return ()
    return (value,) if isinstance(value, int) else tuple(value)
