"""Changed keys are those that a run was given, whatever section of a union they belong to."""

from typing import Any

from unmask.configs.load import config_from, dump
from unmask.configs.rl import RLConfig
from unmask.runs.defaults import changed_keys

GIVEN: dict[str, Any] = {
    "steps": 60,
    "run": {"dir": "runs/a"},
    "model": {"path": "a/model"},
    "task": {"kind": "reasoning_gym", "name": "chain_sum"},
    "loss": {"kind": "clipped", "clip": [0.1, 0.3]},
    "sampling": {"threshold": 0.5, "max_tokens": 256},
}


def resolved(given: dict[str, Any]) -> dict[str, Any]:
    return dump(config_from(RLConfig, [("", given)])[0])


def test_given_values_differ_and_defaults_do_not() -> None:
    config = resolved(GIVEN)
    changed = changed_keys(config, "rl")
    assert {"run.dir", "model.path", "task.name", "loss.clip", "sampling.threshold"} <= changed
    assert not changed & {"loss.kl", "sampling.temperature", "run.seed", "optimizer.lr"}
    defaults = resolved({**GIVEN, "sampling": {}})
    assert "sampling.threshold" not in changed_keys(defaults, "rl")


def test_without_a_kind_every_key_differs() -> None:
    assert changed_keys({"a": {"b": 1}}, None) == {"a.b"}
    assert changed_keys({"surprise": 1}, "rl") == {"surprise"}
