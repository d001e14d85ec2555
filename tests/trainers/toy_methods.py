"""Configurations that are one row of the method table, for tests that start no run."""

from typing import Any

from unmask.configs.rl import RLConfig

# Several updates per step, so that every term of a loss has an effect.
SEVERAL = {"minibatches": 2}


def row(
    views: dict[str, Any] | None = None,
    loss: dict[str, Any] | None = None,
    advantage: dict[str, Any] | None = None,
    **keys: Any,
) -> RLConfig:
    """Return the RL config of these choices; two updates per step unless `minibatches` is given."""
    required = {"model": {"path": "-"}, "task": {"kind": "json"}}
    choices = {"views": views or {}, "loss": loss or {}, "advantage": advantage or {}}
    return RLConfig.model_validate(required | choices | SEVERAL | keys)
