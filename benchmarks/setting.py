"""Shared by the benchmarks: the machine they ran on, the quickstart's configs, the JSON they leave."""

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from unmask import __version__
from unmask.configs.load import load_config
from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig
from unmask.trainers.quickstart import make_base, shipped_config
from unmask.trainers.sft import train_sft

RESULTS = Path(__file__).parent / "results"
C = TypeVar("C", SFTConfig, RLConfig)


def describe_machine() -> dict[str, Any]:
    """Return the machine that the seconds were measured on."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "unmask": __version__,
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def quickstart_config(
    kind: type[C], task: str, directory: Path, model: Path, overrides: Sequence[str] = ()
) -> C:
    """Load a config that comes with unmask, for a run in `directory` that starts from `model`."""
    name = "sft" if kind is SFTConfig else "rl"
    moved = [f"run.dir={directory}", f"model.path={model}", "eval.problems=0"]
    return load_config(kind, [shipped_config(name, task)], [*moved, *overrides])[0]


def train_quickstart_model(task: str, directory: Path, overrides: Sequence[str]) -> Path:
    """Return the quickstart's model after its SFT, with `key=value` overrides; all is written below `directory`."""
    base = directory / "base"
    config = quickstart_config(SFTConfig, task, directory / "sft", base, overrides)
    make_base(config, base, config.run.seed)
    return train_sft(config)


def write_result(path: Path | None, result: dict[str, Any]) -> None:
    """Write a result as JSON; `None` writes nothing."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
