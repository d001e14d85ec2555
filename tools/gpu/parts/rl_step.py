"""A whole RL step at 0.6B: rollout, scoring, update, sync; about 20 s, compilation and a warm-up step included.

32 prompts of 200 to 263 tokens, 8 responses of 256 each, two tokens per pass; rewards are drawn, because random
weights earn none. The step runs twice, the first one compiles and captures.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from shapes import drawn_model, sdar_spec

from tools.gpu.decode import make_prompts, sampling_of, serve
from tools.gpu.measure import parameters, prepare, rounded, seconds
from tools.gpu.part import Outcome, Part, Setting
from unmask.configs.optimizer import PolicyOptimizerConfig
from unmask.configs.rl import RLConfig
from unmask.diffusion.views import Views, views_of_trajectory
from unmask.engine.engine import Engine
from unmask.engine.options import EngineParams
from unmask.trainers.learner import Learner
from unmask.trainers.losses import build_policy_objective
from unmask.trainers.policy_update import PolicyUpdate
from unmask.types import Trajectory

# Prompts, responses of each, shortest prompt, spread, tokens of a response, token budget.
FULL, TINY = (32, 8, 200, 64, 256, 8192), (2, 2, 24, 8, 8, 512)


def views_of_groups(trajectories: Sequence[Trajectory], responses: int) -> list[Views]:
    """Return the views of groups whose rewards are drawn, with advantages by the group's mean and deviation."""
    rng = random.Random(0)
    found: list[Views] = []
    for start in range(0, len(trajectories), responses):
        rewards = torch.tensor([rng.random() for _ in range(responses)])
        advantages = ((rewards - rewards.mean()) / (rewards.std() + 1e-6)).tolist()
        group = trajectories[start : start + responses]
        found += [views_of_trajectory(t, a) for t, a in zip(group, advantages, strict=True)]
    return found


def run(setting: Setting) -> Outcome:
    """Measure the stages of a step."""
    device, is_tiny = setting.device, setting.is_tiny
    prepare(device)
    num_prompts, responses, shortest, spread, written, budget = TINY if is_tiny else FULL
    model = drawn_model(
        sdar_spec("0.6B", is_tiny), device, torch.float32 if is_tiny else torch.bfloat16
    )
    model.backbone.gradient_checkpointing = True
    config = RLConfig.model_validate(
        {
            "model": {"path": "-"},
            "task": {"kind": "json"},
            "minibatches": 2,
            "optimizer": PolicyOptimizerConfig(token_budget=budget).model_dump(),
        }
    )
    learner = Learner(model, config.optimizer)
    policy_update = PolicyUpdate(
        learner, config, build_policy_objective(config), has_old_logprobs=True
    )
    engine = Engine(model, EngineParams(max_sequences=num_prompts * responses))
    prompts = make_prompts(num_prompts, shortest, spread, model.spec.vocab_size)
    copies = [prompt for prompt in prompts for _ in range(responses)]
    held: dict[str, Any] = {}

    def rollout() -> None:
        found = serve(engine, copies, sampling_of(2, written)).trajectories
        held["trajectories"] = sorted(found, key=lambda t: t.sampling.seed)

    def layout() -> None:
        held["views"] = views_of_groups(held["trajectories"], responses)

    def score() -> None:
        old = learner.score(held["views"])
        held["views"] = [
            replace(v, old_logprobs=o) for v, o in zip(held["views"], old, strict=True)
        ]

    def update() -> None:
        held["metrics"] = policy_update(held["views"], 0, config.optimizer.lr)

    stages: dict[str, Callable[[], object]] = {
        "rollout": rollout,
        "views": layout,
        "score": score,
        "update": update,
        "sync": engine.update_weights,
    }
    for _ in range(2):  # the second one counts
        spent = {name: seconds(stage, device) for name, stage in stages.items()}
    tokens = sum(t.num_response for t in held["trajectories"])
    figures = {
        "settings": {
            "shape": "0.6B",
            "parameters": parameters(model),
            "dtype": str(model.dtype).removeprefix("torch."),
            "prompts": num_prompts,
            "responses": responses,
            "prompt_tokens": [shortest, shortest + spread],
            "written": written,
            "tokens_per_pass": 2,
            "minibatches": config.minibatches,
            "token_budget": budget,
        },
        "seconds": spent,
        "response_tokens": tokens,
        "packed_tokens": held["metrics"]["packed_tokens"],
        "logprob_gap": held["metrics"].get("logprob_gap"),
        "rollout_tokens_per_s": tokens / spent["rollout"],
        "update_tokens_per_s": held["metrics"]["packed_tokens"] / spent["update"],
    }
    shown = ", ".join(f"{name} {value:.2f}" for name, value in spent.items())
    summary = (
        f"{sum(spent.values()):.1f} s: {shown}; {tokens / spent['rollout']:,.0f} tok/s written"
    )
    return Outcome(summary, None, rounded(figures))


PART = Part("whole RL step, 0.6B shape, 32 x 8 responses of 256 tokens", "speed", run, limit_s=75)
