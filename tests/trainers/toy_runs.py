"""Batches and whole runs that take a second: a random checkpoint, six questions, a reward of our own."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tests.toy import SPEC, toy_checkpoint
from unmask.checkpoints.checkpoint import load_model, save_model
from unmask.configs.load import load_config
from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig
from unmask.diffusion.noise import NoiseSchedule, elbo_weights
from unmask.diffusion.views import Views, views_of_responses, views_of_trajectory
from unmask.engine.llm import LLM
from unmask.models.transformer import Model
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt, Trajectory

QUESTIONS = ["1+2=", "3-4=", "50+1=", "7=", "89-12=", "6+6+6="]


def share_of_sevens(prompt: Prompt, response: str) -> float:
    """Reward a response for every 7 it holds."""
    return response.count("7") / 8


def always_one(prompt: Prompt, response: str) -> float:
    """Reward every response alike."""
    return 1.0


def toy_trajectories(model: Model, count: int = 6, **sampling: Any) -> list[Trajectory]:
    """Let a model answer prompts of 3, 4, 5, ... tokens, so that blocks are cut in every way."""
    prompts = [Prompt("toy", uid, (), tuple(range(2, 5 + uid))) for uid in range(count)]
    params = [replace(SamplingParams(max_tokens=9, seed=n), **sampling) for n in range(count)]
    return LLM(model).complete(prompts, params)


def policy_views(model: Model, shrink: int = 1, **sampling: Any) -> list[Views]:
    """Return the views of `toy_trajectories`, with advantages of both signs."""
    trajectories = toy_trajectories(model, **sampling)
    return [views_of_trajectory(t, 1.5 - n, shrink) for n, t in enumerate(trajectories)]


def supervised_views(
    count: int = 4, length: int = 10, block: int | None = SPEC.block_size
) -> list[Views]:
    """Return two noisy views each of `count` responses, weighted for the ELBO; prompts have one length."""
    schedule = NoiseSchedule(0.3, 0.9)
    responses = [[2 + (n * 7 + i * 3) % 18 for i in range(length)] for n in range(count)]
    pairs = [((2 + n, 3, 4, 5, 6), response) for n, response in enumerate(responses)]
    return [
        replace(v, weight=elbo_weights(v.noise_level))
        for v in views_of_responses(pairs, block, (schedule, 2), range(count))
        if v.noise_level is not None
    ]


def _write_checkpoint(place: Path) -> None:
    """Write a model that is unsure of everything, so that the answers to a prompt differ."""
    model = load_model(toy_checkpoint(place))
    with torch.no_grad():
        model.head.projection.weight.mul_(0.2)
    save_model(model, place)


def _write_lists(place: Path) -> None:
    questions = [{"question": q, "ground_truth_answer": "7"} for q in QUESTIONS]
    (place / "questions.json").write_text(json.dumps(questions))
    answers = [{"prompt": q, "response": "7;77<eos>"} for q in QUESTIONS]
    (place / "demonstrations.json").write_text(json.dumps(answers))


def words_of_run(place: Path, run: str) -> list[str]:
    """Write checkpoint and data below `place` once, and return the settings all runs share."""
    if not (place / "checkpoint").exists():
        _write_checkpoint(place / "checkpoint")
        _write_lists(place)
    return [
        f"run.dir={place / run}",
        f"model.path={place / 'checkpoint'}",
        "steps=2",
        "task.kind=json",
        "task.template={question}",
        "task.reward=tests.trainers.toy_runs:share_of_sevens",
        f"task.train={place / 'questions.json'}",
        f"task.validation={place / 'questions.json'}",
        "optimizer.lr=1e-3",
        "eval.problems=0",
    ]


def rl_config(place: Path, *words: str, run: str = "run") -> RLConfig:
    """Return a tiny `unmask rl`, with `key=value` words laid over it."""
    settings = ["rollout.prompts=3", "rollout.responses=4", "sampling.max_tokens=8", *words]
    return load_config(RLConfig, [], words_of_run(place, run) + settings)[0]


def sft_config(place: Path, *words: str, run: str = "run") -> SFTConfig:
    """Return a tiny `unmask sft`, with `key=value` words laid over it."""
    path = f"data.path={place / 'demonstrations.json'}"
    settings = [path, "data.batch_size=4", "eval.sampling.max_tokens=8", *words]
    return load_config(SFTConfig, [], words_of_run(place, run) + settings)[0]


def metrics(run: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's `metrics.jsonl` without what depends on the clock."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.endswith("_s")} for line in lines]
