"""Configs to plan, and the toy's shape as a model directory."""

from typing import Any

from unmask.configs.load import load_config
from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig
from unmask.models.spec import ModelSpec
from unmask.planning.devices import device_named
from unmask.planning.job import Lengths
from unmask.planning.plan import Case
from unmask.planning.published import SHAPES

LENGTHS = Lengths(256, 1024, 1.5)
RL = ("task.kind=json", "sampling.max_tokens=1024", "rollout.prompts=64", "rollout.responses=16")


def case(
    *words: str,
    kind: str = "rl",
    spec: ModelSpec = SHAPES["8B"],
    count: int = 8,
    device: str = "h100",
    lengths: Lengths = LENGTHS,
) -> Case:
    """Return a case of an 8B model on 8 H100, with `key=value` words laid over its config.

    Packs have 8,192 tokens where no word gives them or `optimizer.memory`.
    """
    cls: Any = SFTConfig if kind == "sft" else RLConfig
    shared = [*(RL if kind == "rl" else ()), "model.path=SDAR-8B-Chat"]
    if not any(word.startswith("optimizer.memory=") for word in words):
        shared.append("optimizer.token_budget=8192")
    config, _ = load_config(cls, [], [*shared, *words])
    return Case(config, spec, device_named(device), count, lengths)
