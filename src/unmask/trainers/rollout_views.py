"""The views of a step's trajectories, by `views.kind`, with their advantages over their baseline.

`views.train_block` lays a block-causal trajectory on a coarser grid first. Its blocks are whole blocks of
the rollout's grid, so the denoising steps stand as they are and number the passes of the larger block.

A value model replaces `Views.advantages (C,)` by one advantage per token afterwards.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from unmask.configs.methods import partner
from unmask.configs.methods.view_section import ViewSection
from unmask.configs.methods.views.trace import TraceViews
from unmask.configs.rl import RLConfig
from unmask.diffusion.move_views import views_of_moves
from unmask.diffusion.views import Views
from unmask.models.spec import ModelSpec
from unmask.objectives.advantages import advantages_of_rewards
from unmask.rollouts.shaping import shaped_rewards
from unmask.types import Group, Trajectory


def rollout_views(
    groups: Sequence[Group],
    config: RLConfig,
    is_full: bool = False,
    step: int = 1,
    is_shifted: bool = False,
) -> list[Views]:
    """Return the views of every trajectory, with its advantage, group by group.

    Args:
        groups: that are trained on.
        config: views, baseline and shaping.
        is_full: whether the model's attention is full.
        step: RL step, counted from 1, for the schedule of `views.train_block`.
        is_shifted: whether the model predicts a token in the row before it.

    Raises:
        ValueError: what `views_of_trajectory` refuses.
    """
    views_of = _views_function(config, is_full, is_shifted)
    block = config.views.train_block_at(step)
    rewards = [shaped_rewards(group, config.shaping) for group in groups]
    psi = getattr(config.advantage, "psi", 1.0)  # of kind "softmax"
    advantages = advantages_of_rewards(
        rewards, config.advantage.baseline, psi, config.rollout.drafts
    )
    return [
        views_of(enlarge_blocks(trajectory, block) if block else trajectory, advantage)
        for group, of_group in zip(groups, advantages, strict=True)
        for trajectory, advantage in zip(group.trajectories, of_group, strict=True)
    ]


def _views_function(config: RLConfig, is_full: bool, is_shifted: bool) -> Callable[..., Views]:
    """Return the function of a trajectory and its advantage that makes its views."""
    if isinstance(config.views, TraceViews) and config.scores_moves:
        scores_past_stop = config.views.post_stop == "score"
        return partial(
            views_of_moves,
            is_full=is_full,
            is_shifted=is_shifted,
            scores_past_stop=scores_past_stop,
        )
    of_trajectory = partner(config.views, "unmask.diffusion.methods").of_trajectory
    return partial(of_trajectory, config=config.views, is_full=is_full)


def outcome_columns(
    groups: Sequence[Group], views: Sequence[Views], config: RLConfig
) -> list[Mapping[str, Tensor]]:
    """Return `right (N, C)` of each trajectory's targets, where the loss reads it, or no column.

    Args:
        groups: that are trained on.
        views: of their trajectories in order.
        config: of the run.
    """
    least: float | None = getattr(config.loss, "least_right", None)
    if least is None:
        return [{} for _ in views]
    outcomes = [outcome for group in groups for outcome in group.parts["outcome"]]
    return [
        {"right": torch.full(v.target.shape, float(outcome >= least))}
        for v, outcome in zip(views, outcomes, strict=False)  # there are no views without targets
    ]


def recorded_advantages(
    groups: Sequence[Group], views: Sequence[Views], config: RLConfig
) -> dict[int, list[float]]:
    """Return the advantages of each position, by `id` of a trajectory, for the record of the step.

    Those of a value model are not part of the views; none are returned then.

    Args:
        groups: that are trained on.
        views: of `rollout_views`.
        config: of the run.
    """
    if config.advantage.has_value_model:
        return {}
    trajectories = [trajectory for group in groups for trajectory in group.trajectories]
    return {
        # Larger blocks of training may have more positions.
        id(trajectory): of_one.advantages[: len(trajectory.canvas_ids)].tolist()
        for trajectory, of_one in zip(trajectories, views, strict=True)
    }


def enlarge_blocks(trajectory: Trajectory, block: int) -> Trajectory:
    """Return a block-causal trajectory as if it had been written in larger blocks.

    Its canvas is padded to whole blocks of the new grid, with positions that were never revealed.

    Args:
        trajectory: from the engine.
        block: a multiple of its own.
    """
    num_tokens = len(trajectory.prompt.token_ids) + len(trajectory.canvas_ids)
    more = -num_tokens % block
    return replace(
        trajectory,
        canvas_ids=(*trajectory.canvas_ids, *[0] * more),  # hidden in every view
        step_map=(*trajectory.step_map, *[0] * more),
        behavior_logprobs=(*trajectory.behavior_logprobs, *[0.0] * more),
        sampling=replace(trajectory.sampling, block_size=block),
    )


def check_train_block(views: ViewSection, block: int | None, spec: ModelSpec) -> None:
    """Refuse training blocks that are no multiple of the rollouts'.

    Args:
        views: `train_block`.
        block: of the rollouts; `None` is the model's own.
        spec: of the model.

    Raises:
        ValueError: naming the block; or if attention is full, where views have no blocks.
    """
    check_fits_model(views, spec)
    rollout_block = spec.require_block(block)
    for found in views.train_blocks:
        if rollout_block and found % rollout_block:
            raise ValueError(
                f"views.train_block = {found} must be a multiple of the rollouts' blocks of "
                f"{rollout_block} (sampling.block_size)"
            )


def check_fits_model(views: ViewSection, spec: ModelSpec) -> None:
    """Refuse views that a model's attention cannot be trained on.

    Raises:
        ValueError: naming the key and the family.
    """
    reason = views.refusal(spec.is_full, spec.is_shifted)
    if reason:
        attention = "full" if spec.is_full else "block-causal"
        raise ValueError(f"{reason}: {spec.family} has {attention} attention")
