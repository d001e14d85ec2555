"""Run directories written without running anything."""

import json
from pathlib import Path
from typing import Any

from unmask.configs.load import dump, load_config
from unmask.configs.rl import RLConfig

START = "2026-01-02T03:04:05+00:00"


def write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))


def past_run(path: Path, *words: str, metrics: list[dict[str, Any]] | None = None) -> Path:
    """Write an RL run with these settings and metrics."""
    path.mkdir(parents=True)
    settings = ["model.path=m", "task.kind=reasoning_gym", "task.name=chain_sum", "steps=9", *words]
    config = load_config(RLConfig, [], [f"run.dir={path}", *settings])[0]
    (path / "config.json").write_text(json.dumps(dump(config)))
    environment = {"start_time": START, "argv": [str(path)], "python": "3.11.7", "threads": 1}
    (path / "environment.json").write_text(json.dumps(environment))
    write_lines(path / "metrics.jsonl", metrics or [])
    return path


def trajectory(step: int | None = 1, reward: float = 1.0, **changes: Any) -> dict[str, Any]:
    """Return a record as `trajectory_record` makes it: six tokens in three steps, blocks of four."""
    return {
        "step": step,
        "text": "5;-1",
        "reward": reward,
        "parts": {"graded": reward},
        "num_denoising_steps": 3,
        "prompt": {
            "task": "chain_sum",
            "uid": 7,
            "messages": [{"role": "user", "content": "4+1-6="}],
            "token_ids": [6, 3, 13, 5, 4, 2],
        },
        "canvas_ids": [7, 15, 13, 3, 0, 0],
        "step_map": [2, 1, 2, 3, 0, 3],
        "num_response": 5,
        "finish": "stop",
        "sampling": {"block_size": 4},
        **changes,
    }
