"""A whole RL step at 0.6B: rollout, scoring, update, sync; about 20 s, compilation and a warm-up step included.

32 prompts of 200 to 263 tokens, 8 responses of 256 each, two tokens per pass; rewards are drawn, because random
weights earn none. The step runs twice, the first one compiles and captures.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from unmask.sampling_params import SamplingParams
from unmask.trainers.learner import Learner
from unmask.trainers.losses import build_policy_objective
from unmask.trainers.policy_update import PolicyUpdate
from unmask.types import Prompt, Trajectory

# Prompts, responses of each, shortest prompt, spread, tokens of a response, token budget.
FULL, TINY = (32, 8, 200, 64, 256, 8192), (2, 2, 24, 8, 8, 512)
MINIBATCHES = 2


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


@dataclass(slots=True)
class Step:
    """An RL step whose stages are run one by one; each leaves what the next one takes.

    Attributes:
        learner: of the model.
        policy_update: the optimizer steps of an RL step.
        engine: around the same model.
        prompts: each once per response.
        responses: of a prompt.
        sampling: of the responses.
        rate: learning rate.
        trajectories: of the last rollout.
        views: of them.
        metrics: of the last update.
    """

    learner: Learner
    policy_update: PolicyUpdate
    engine: Engine
    prompts: list[Prompt]
    responses: int
    sampling: SamplingParams
    rate: float
    trajectories: list[Trajectory] = field(default_factory=list)
    views: list[Views] = field(default_factory=list)
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def rollout(self) -> None:
        """Write a response to every prompt."""
        found = serve(self.engine, self.prompts, self.sampling).trajectories
        self.trajectories = sorted(found, key=lambda t: t.sampling.seed)

    def lay_views(self) -> None:
        """Make the views of the responses."""
        self.views = views_of_groups(self.trajectories, self.responses)

    def score(self) -> None:
        """Take the learner's log-probabilities as the old ones."""
        old = self.learner.score(self.views)
        pairs = zip(self.views, old, strict=True)
        self.views = [replace(v, old_logprobs=logprobs) for v, logprobs in pairs]

    def update(self) -> None:
        """Take the optimizer steps."""
        self.metrics = self.policy_update(self.views, 0, self.rate)

    def measure(self, device: torch.device) -> dict[str, float]:
        """Return the seconds of each stage."""
        stages: dict[str, Callable[[], object]] = {
            "rollout": self.rollout,
            "views": self.lay_views,
            "score": self.score,
            "update": self.update,
            "sync": self.engine.update_weights,
        }
        return {name: seconds(stage, device) for name, stage in stages.items()}


def build(setting: Setting) -> Step:
    """Return a step of a model with random weights."""
    num_prompts, responses, shortest, spread, written, budget = TINY if setting.is_tiny else FULL
    dtype = torch.float32 if setting.is_tiny else torch.bfloat16
    model = drawn_model(sdar_spec("0.6B", setting.is_tiny), setting.device, dtype)
    model.backbone.gradient_checkpointing = True
    config = RLConfig.model_validate(
        {
            "model": {"path": "-"},
            "task": {"kind": "json"},
            "minibatches": MINIBATCHES,
            "optimizer": PolicyOptimizerConfig(token_budget=budget).model_dump(),
        }
    )
    learner = Learner(model, config.optimizer)
    objective = build_policy_objective(config)
    prompts = make_prompts(num_prompts, shortest, spread, model.spec.vocab_size)
    return Step(
        learner,
        PolicyUpdate(learner, config, objective, has_old_logprobs=True),
        Engine(model, EngineParams(max_sequences=num_prompts * responses)),
        [prompt for prompt in prompts for _ in range(responses)],
        responses,
        sampling_of(2, written),
        config.optimizer.lr,
    )


def run(setting: Setting) -> Outcome:
    """Measure the stages of a step."""
    prepare(setting.device)
    step = build(setting)
    step.measure(setting.device)  # compiles and captures
    spent = step.measure(setting.device)
    num_prompts, responses, shortest, spread, written, budget = TINY if setting.is_tiny else FULL
    model = step.engine.model
    tokens = sum(t.num_response for t in step.trajectories)
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
            "minibatches": MINIBATCHES,
            "token_budget": budget,
        },
        "seconds": spent,
        "response_tokens": tokens,
        "packed_tokens": step.metrics["packed_tokens"],
        "logprob_gap": step.metrics.get("logprob_gap"),
        "rollout_tokens_per_s": tokens / spent["rollout"],
        "update_tokens_per_s": step.metrics["packed_tokens"] / spent["update"],
    }
    shown = ", ".join(f"{name} {value:.2f}" for name, value in spent.items())
    summary = (
        f"{sum(spent.values()):.1f} s: {shown}; {tokens / spent['rollout']:,.0f} tok/s written"
    )
    return Outcome(summary, None, rounded(figures))


PART = Part(
    "whole RL step, 0.6B shape, 32 x 8 responses of 256 tokens",
    "speed",
    run,
    limit_s=75,
    is_default=False,
)
