"""The gap between the engine's log-probabilities and the learner's: its whole distribution.

Policy gradients take the engine's log-probability as that of the policy. The gap is what two sets of kernels
make of the same numbers.
"""

from typing import Any

import torch

from tools.gpu.part import Outcome, Part, Setting
from tools.gpu.small_models import (
    FORMATS,
    LARGEST,
    LOGPROB,
    random_prompts,
    sampling_of,
    small_experts,
    small_model,
)
from unmask.configs.optimizer import OptimizerConfig
from unmask.diffusion.views import views_of_trajectory
from unmask.engine.llm import LLM
from unmask.trainers.learner import Learner


def run(setting: Setting) -> Outcome:
    """Measure a dense model and one with experts, in both number formats."""
    figures: dict[str, Any] = {}
    passed = True
    for kind, moe in (("dense", None), ("experts", small_experts(setting))):
        for name, dtype in FORMATS.items():
            found = measure_gap(setting, dtype, moe=moe)
            figures[f"{kind} {name}"] = found
            # A token near a border between experts may go to another one: no bound on the largest.
            passed &= found["mean"] <= LOGPROB[name]
            passed &= bool(moe) or found["max"] <= LARGEST[name]
    parts = (
        f"{key} max {x['max']:.1e}, {x['share_above_1e-3']:.1%} above 1e-3"
        for key, x in figures.items()
        if key.startswith("dense")
    )
    return Outcome("; ".join(parts), passed, figures)


def measure_gap(setting: Setting, dtype: torch.dtype, **changes: Any) -> dict[str, Any]:
    """Return the distribution of absolute differences over all tokens of some responses."""
    count, longest, max_tokens = (4, 12, 8) if setting.is_tiny else (32, 300, 64)
    model = small_model(setting, dtype, **changes)
    prompts = random_prompts(count, model.spec.num_drawable, longest)
    trajectories = LLM(model).complete(prompts, sampling_of(count, max_tokens))
    views = [views_of_trajectory(trajectory, 1.0) for trajectory in trajectories]
    learner = Learner(model, OptimizerConfig(token_budget=1024 if setting.is_tiny else 8192))
    gaps = torch.cat(
        [
            (scores - v.behavior_logprobs.expand_as(scores))[v.target].abs()
            for scores, v in zip(learner.score(views), views, strict=True)
        ]
    )
    quantiles = (0.5, 0.9, 0.99, 0.999)
    return {
        "tokens": len(gaps),
        "max": float(gaps.max()),
        "mean": float(gaps.mean()),
        "quantiles": dict(zip(map(str, quantiles), _quantiles(gaps, quantiles), strict=True)),
        "share_above_1e-3": float((gaps > 1e-3).double().mean()),
        "share_exactly_0": float((gaps == 0).double().mean()),
    }


def _quantiles(gaps: torch.Tensor, shares: tuple[float, ...]) -> list[float]:
    return [float(x) for x in gaps.double().quantile(torch.tensor(shares, dtype=torch.float64))]


# Four models, 2,048 tokens each, one FlexAttention kernel per format: 15 s.
PART = Part("gap between engine and learner, in log-probability", "correctness", run, limit_s=60)
