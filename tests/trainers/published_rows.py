"""Rows of the published trainers of models with images as views, and one update of ours on them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tests.trainers.toy_methods import row
from unmask.configs.optimizer import PolicyOptimizerConfig
from unmask.configs.rl import RLConfig
from unmask.diffusion.target_table import tables_of
from unmask.diffusion.views import Views, views_of_trajectory
from unmask.objectives.reduce import reduction_weights
from unmask.sampling_params import SamplingParams
from unmask.trainers.learner import Learner, Update
from unmask.trainers.losses import NO_TABLES, reweighted
from unmask.trainers.value_targets import value_targets
from unmask.types import Group, Prompt, Trajectory


def written(
    prompt: Prompt, ids: Sequence[int], steps: Sequence[int], num_response: int
) -> Trajectory:
    """Return a recorded response: a trace that is too long is cut, one that is too short has one more step."""
    first, last = 1 - min(steps), max(steps) + 1
    step_map = [step + first for step in (*steps, *(last for _ in ids))[: len(ids)]]
    return Trajectory(
        prompt=prompt,
        canvas_ids=tuple(ids),
        step_map=tuple(step_map),
        behavior_logprobs=(0.0,) * len(ids),
        num_response=num_response,
        finish="stop" if num_response < len(ids) else "length",
        policy_version=0,
        sampling=SamplingParams(max_tokens=len(ids)),
        num_forwards=0,
    )


def traced(
    trajectories: Sequence[Trajectory], rewards: Sequence[float], case: dict[str, Any]
) -> list[Views]:
    """Return the views of trajectories under recorded settings; no `post_num` is no limit."""
    post_num = 1000 if case["post_num"] is None else case["post_num"]
    return [
        views_of_trajectory(trajectory, reward, case["shrink"], post_num, is_full=True)
        for trajectory, reward in zip(trajectories, rewards, strict=True)
    ]


def split(rows: Tensor, views: Sequence[Views]) -> list[Tensor]:
    """Return the canvas of recorded rows `(all views, L)`, `(N, C)` of each trajectory."""
    parts = rows.split([len(v.target) for v in views])
    return [part[:, -v.target.shape[1] :] for part, v in zip(parts, views, strict=True)]


def with_old(views: Sequence[Views], old: Tensor) -> list[Views]:
    """Return views with recorded log-probabilities `(all views, L)` of the old policy."""
    return [
        replace(v, old_logprobs=o.double()) for v, o in zip(views, split(old, views), strict=True)
    ]


def updated(
    model: Any, views: Sequence[Views], objective: Any, columns: Sequence[dict[str, Tensor]] = ()
) -> Update:
    """Return the loss and the metrics of one update, averaged over rows; the model changes."""
    learner = Learner(model, PolicyOptimizerConfig(lr=1e-9))
    weights, denominator = reduction_weights([v.target.sum(-1) for v in views], "view", 1)
    tables = tables_of(columns) if columns else NO_TABLES

    def of_pack(scores: Any, pack: Any) -> Any:
        return objective(scores, pack, tables) if columns else objective(scores, pack)

    return learner.update(reweighted(views, weights), of_pack, denominator)


def returns_and_advantages(
    trajectories: Sequence[Trajectory],
    views: Sequence[Views],
    values: Sequence[Tensor],
    gamma: float,
    lam: float,
) -> tuple[Tensor, Tensor]:
    """Return both at the targets of all views in row order `(S,)`; the views hold the rewards."""
    config: RLConfig = row(advantage={"kind": "value", "lr": 1e-9, "gamma": gamma, "lam": lam})
    masked = [value.double() * v.target for value, v in zip(values, views, strict=True)]
    groups = [Group(t.prompt, [t], [0.0]) for t in trajectories]
    found = value_targets(groups, views, masked, config)
    returns = [columns["returns"] for columns in found.columns()]
    advantages = [v.advantages.expand(v.target.shape) for v in found.views]
    return at_targets(returns, views), at_targets(advantages, views)


def at_targets(tables: Sequence[Tensor], views: Sequence[Views]) -> Tensor:
    """Return the numbers `(S,)` of tables `(N, C)` at the targets, in row order."""
    return torch.cat([t[v.target] for t, v in zip(tables, views, strict=True)])
