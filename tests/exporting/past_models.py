"""Runs with models and adapters, written without training anything."""

import json
from pathlib import Path
from typing import Any

from tests.runs.past_runs import past_run
from tests.toy import toy_checkpoint
from unmask.checkpoints.checkpoint import load_model, save_model
from unmask.checkpoints.lora_files import save_adapter
from unmask.models.lora import LoRAParams, adapters, add_lora
from unmask.models.transformer import Model

METRICS: list[dict[str, Any]] = [
    {"step": 1, "reward": 0.25, "loss": 0.5},
    {
        "step": 9,
        "reward": 0.75,
        "loss": 0.125,
        "eval_accuracy": 0.5,
        "eval_accuracy_low": 0.25,
        "eval_accuracy_high": 0.75,
    },
]


def trained_run(path: Path, start: str, *words: str) -> Path:
    """Write an RL run that started from a model and left one."""
    past_run(path, f"model.path={start}", *words, metrics=METRICS)
    toy_checkpoint(path / "model", seed=3)
    return path


def adapted_run(path: Path, base: Path, start: str, *words: str) -> tuple[Path, Model]:
    """Write an RL run that trained adapters on a base; return it and the model with them."""
    past_run(path, f"model.path={start}", "lora.rank=2", *words, metrics=METRICS)
    model = load_model(base, dtype=None)
    add_lora(model, LoRAParams(rank=2, alpha=4.0), seed=5)
    for adapter in adapters(model).values():
        adapter.lora_b.data.normal_(std=0.3)
    save_adapter(model, path / "adapter", start)
    save_model(model, path / "model")
    return path, model


def evaluation(path: Path, model: Path) -> Path:
    """Write a run of `unmask eval` with two samplings."""
    path.mkdir()
    task = {"kind": "reasoning_gym", "name": "countdown"}
    config = {"model": {"path": str(model)}, "task": task, "split": "test"}
    (path / "config.json").write_text(json.dumps(config))
    (path / "environment.json").write_text(json.dumps({"start_time": "2026-01-02T03:04:05+00:00"}))
    summary = {"greedy": {"accuracy": 0.625, "ci95": [0.5, 0.75]}, "drawn": {"accuracy": 0.5}}
    (path / "summary.json").write_text(json.dumps({"samplings": summary}))
    return path
