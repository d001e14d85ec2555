"""Configurations that are one row of the method table, for tests that start no run."""

import json
import tomllib
from typing import Any

from tests.architecture.source import ROOT
from unmask.configs.load import flatten, load_config
from unmask.configs.methods.views_loss import ViewsLoss
from unmask.configs.rl import RLConfig

# Several updates per step, so that every term of a loss has an effect.
SEVERAL = {"minibatches": 2}
# The shipped methods: a file that is added is in every test that lists them.
FILES = {path.stem: path for path in sorted((ROOT / "configs" / "methods").glob("*.toml"))}
REQUIRED = {"model": {"path": "-"}, "task": {"kind": "json"}}


def row(
    views: dict[str, Any] | None = None,
    loss: dict[str, Any] | None = None,
    advantage: dict[str, Any] | None = None,
    **keys: Any,
) -> RLConfig:
    """Return the RL config of these choices; two updates per step unless `minibatches` is given."""
    choices = {"views": views or {}, "loss": loss or {}, "advantage": advantage or {}}
    return RLConfig.model_validate(REQUIRED | choices | SEVERAL | keys)


def shipped(name: str, *words: str) -> RLConfig:
    """Return the RL config of a shipped method with `key=value` words laid over it."""
    required = [f"{key}={value}" for key, value in flatten(REQUIRED)]
    return load_config(RLConfig, [FILES[name]], [*required, *words])[0]


def words_of(name: str) -> list[str]:
    """Return a shipped method as `key=value` words."""
    values = flatten(tomllib.loads(FILES[name].read_text()))
    return [f"{key}={value if isinstance(value, str) else literal(value)}" for key, value in values]


def literal(value: Any) -> str:
    """Return a TOML literal of a value, list or table."""
    match value:
        case dict():
            table: dict[str, Any] = value
            return "{" + ", ".join(f"{k}={literal(v)}" for k, v in table.items()) + "}"
        case list():
            items: list[Any] = value
            return "[" + ", ".join(map(literal, items)) + "]"
        case _:
            return json.dumps(value)


OF_RESPONSES = [name for name in FILES if isinstance(shipped(name).loss, ViewsLoss)]
