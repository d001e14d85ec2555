"""Run directories for tests, with text that tries to break out of a page."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from unmask.runs.trajectories import grid_ids, trajectory_record
from unmask.sampling_params import SamplingParams
from unmask.types import Message, Prompt, Revision, Trajectory

HOSTILE = (
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "&lt;b&gt; & <!--",
    "a\u2028b\u2029c",
    "right\u202eto left\u202c",
    "w" * 400,
    "\x00\x07\t \n",
    "'\"`${1}",
    "\ufffd",
    "",
)

SUMMARY: dict[str, Any] = {
    "accuracy": 0.75,
    "ci95": [0.7, 0.8],
    "pass_at": {"2": {"value": 0.9, "ci95": [0.8, 0.95]}},
    "majority_at": {"2": {"value": 0.8, "ci95": [0.7, 0.9]}},
    "n": 636,
    "samples": 2,
    "outcomes": {"correct": 954, "wrong": 300, "timeout": 11, "crash": 3, "failed": 4},
    "tokens_per_denoising_step": 1.5,
    "tokens_per_denoising_step_ci95": [1.25, 1.75],
    "response_tokens": 12.5,
    "truncated": 0.02,
    "lengths": [
        {"first": 1, "last": 10, "right": 500, "others": 20},
        {"first": 11, "last": 20, "right": 454, "others": 294},
    ],
}
SPEED: dict[str, Any] = {
    "tokens_per_forward": 1.4,
    "tokens_per_forward_ci95": [1.2, 1.6],
    "forwards": 9.0,
    "wall_s": 75.0,
    "tokens_per_s": 212.0,
}

# Two prompt tokens are in the first block of four; the last two positions are past the stop.
TRAJECTORY = Trajectory(
    prompt=Prompt("sum", 7, (Message("user", "2-7-2="),), (5, 6, 7, 8, 9, 10)),
    canvas_ids=(14, 18, 15, 14, 20, 0),
    step_map=(1, 2, 1, 3, 3, 0),
    behavior_logprobs=(-0.5, -0.25, 0.0, -1.0, -2.0, 0.0),
    num_response=4,
    finish="stop",
    policy_version=3,
    sampling=SamplingParams(block_size=4, stop_token_ids=(0,), seed=11),
    num_forwards=3,
)


def record(
    step: int = 1,
    seed: int = 11,
    reward: float | tuple[float, ...] = 1.0,
    trajectory: Trajectory = TRAJECTORY,
    text: str = "-5;-",
) -> dict[str, Any]:
    """Return a recorded trajectory; its pieces are its ids in brackets."""
    seeded = replace(trajectory, sampling=replace(trajectory.sampling, seed=seed))
    pieces = [f"[{token}]" for token in grid_ids(seeded)]
    return trajectory_record(seeded, text, reward, {"format": 0.5}, step, pieces)


def revising_record() -> dict[str, Any]:
    """Position 1 was written in steps 1 and 2, position 3 masked again in step 2."""
    revisions = (
        Revision(1, 1, 9, -0.125, "write"),
        Revision(1, 3, 15, -0.75, "write"),
        Revision(2, 3, 1, 0.0, "remask"),
    )
    made = record(trajectory=replace(TRAJECTORY, revisions=revisions))
    return json.loads(json.dumps(made))


def hostile_record() -> dict[str, Any]:
    """Return a record in which everything a model, a task or a user wrote is hostile."""
    count = len(HOSTILE) + 2  # up to the end of the block, which holds no prompt token
    message = Message("user", "".join(HOSTILE))
    trajectory = replace(
        TRAJECTORY,
        prompt=Prompt(HOSTILE[0], 7, (message,), (5, 6, 7, 8)),
        canvas_ids=tuple(range(count)),
        step_map=tuple(1 + position % 3 for position in range(count)),
        behavior_logprobs=(-0.5,) * count,
        num_response=len(HOSTILE),
    )
    pieces = [*HOSTILE, HOSTILE[0], HOSTILE[1]]
    parts = {HOSTILE[0]: 1.0}
    return trajectory_record(trajectory, "".join(HOSTILE), 1.0, parts, 9, pieces)


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSON Lines file as `RunDirectory` does."""
    path.write_text("".join(f"{json.dumps(r, ensure_ascii=False)}\n" for r in records))


def metrics(num_steps: int) -> list[dict[str, Any]]:
    """Return lines of `metrics.jsonl`, with an evaluation every tenth step."""
    rows: list[dict[str, Any]] = []
    for step in range(1, num_steps + 1):
        row: dict[str, Any] = {
            "step": step,
            "loss": 1 / step,
            "reward": step / num_steps,
            "gradient_norm": 1e6 if step == 7 else 1.0,
            "kl": None if step == 3 else 0.01,
            "logprob_gap_max": 1e-6 * step,
            "rollout_wall_s": 0.5,
            "rollout_cpu_s": 0.4,
        }
        if step % 10 == 0:
            accuracy = step / num_steps
            row |= {"eval_accuracy": accuracy, "eval_wall_s": 3.0, "eval_cpu_s": 2.0}
            row |= {"eval_accuracy_low": accuracy * 0.9, "eval_accuracy_high": accuracy}
        rows.append(row)
    return rows


def write_run(
    directory: Path,
    num_steps: int = 40,
    kind: str = "rl",
    trajectories: Iterable[Mapping[str, Any]] = (),
) -> Path:
    """Write the files of a run and return its directory.

    Args:
        directory: where.
        num_steps: steps of its metrics.
        kind: `rl`, `sft` or `eval`.
        trajectories: records.
    """
    directory.mkdir(parents=True, exist_ok=True)
    mark: dict[str, Any] = {"rl": {"rollout": {}}, "sft": {"data": {}}, "eval": {"split": "test"}}[
        kind
    ]
    config = {
        "run": {"seed": 5},
        "task": {"name": "chain_sum"},
        "model": {"path": "a/model"},
        **mark,
    }
    if kind == "eval":
        for name, found in (("summary", SUMMARY), ("speed", SPEED)):
            text = json.dumps({"samplings": {"dynamic": found}})
            (directory / f"{name}.json").write_text(text)
    else:
        config["steps"] = num_steps
        write_lines(directory / "metrics.jsonl", metrics(num_steps))
    (directory / "config.json").write_text(json.dumps(config))
    environment = {"start_time": "2026-11-20T10:20:10+00:00", "argv": ["unmask", "a b"]}
    (directory / "environment.json").write_text(json.dumps(environment))
    write_lines(directory / "trajectories.jsonl", trajectories)
    return directory
