"""The keys of a run's configuration that differ from their defaults."""

from functools import cache

from unmask.configs.dpo import DPOConfig
from unmask.configs.eval import EvalConfig
from unmask.configs.keys import Key, keys_of, to_toml
from unmask.configs.load import flatten
from unmask.configs.reward_model import RewardModelConfig
from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig
from unmask.runs.read import Record

CONFIGS = {
    "sft": SFTConfig,
    "dpo": DPOConfig,
    "reward-model": RewardModelConfig,
    "rl": RLConfig,
    "eval": EvalConfig,
}


def changed_keys(config: Record, kind: str | None) -> set[str]:
    """Return the dotted names of the keys whose values are not the defaults.

    Keys without a default, and keys that this version does not have, count as changed.

    Args:
        config: the resolved configuration of a run.
        kind: one of `CONFIGS`; None or another is a kind without defaults.
    """
    values = {name: to_toml(value) for name, value in flatten(config)}
    return {
        name
        for name, value in values.items()
        if not any(
            key.default == value
            for key in _keys_named(kind, name)
            # Sections of a union may have a key of one name each: `when` names the kinds of this one.
            if not key.when or _has_kind(key.when, values)
        )
    }


@cache  # every run asks for the same names, several times
def _keys_named(kind: str | None, name: str) -> list[Key]:
    listed = keys_of(CONFIGS[kind]) if kind in CONFIGS else ()
    return [key for key in listed if key.names(name)]


def _has_kind(when: str, values: dict[str, str]) -> bool:
    """Return whether `task.kind = "a" | "b"` holds."""
    name, kinds = when.split(" = ", 1)
    return values.get(name) in kinds.split(" | ")
