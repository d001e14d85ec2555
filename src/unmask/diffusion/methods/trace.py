"""TraceRL's views: the states the sampler was in (`diffusion/trace.py`)."""

from collections.abc import Sequence

import torch

from unmask.configs.methods.views.trace import TraceViews
from unmask.diffusion.trace import trace_views
from unmask.diffusion.views import (
    Canvas,
    Demonstrated,
    Views,
    views_of_trajectory,
    views_under_noise,
)
from unmask.types import Trajectory


def of_trajectory(
    trajectory: Trajectory, advantage: float | Sequence[float], config: TraceViews, is_full: bool
) -> Views:
    """Return one view per denoising step, or per `shrink` of them; see `views_of_trajectory`."""
    return views_of_trajectory(trajectory, advantage, config.shrink, config.post_num, is_full)


def of_demonstrations(
    demonstrations: Sequence[Demonstrated],
    config: TraceViews,
    canvas: Canvas,
    seeds: Sequence[int],
) -> list[Views]:
    """Return the views of the recorded order of each response; there is no noise.

    Only the order of a step map counts, so steps may be numbered from 0 or from 1.
    """
    return [
        _along(prompt_ids, response_ids, step_map, config.shrink, canvas)
        for prompt_ids, response_ids, step_map in demonstrations
    ]


def _along(
    prompt_ids: Sequence[int],
    response_ids: Sequence[int],
    step_map: Sequence[int] | None,
    shrink: int,
    canvas: Canvas,
) -> Views:
    assert step_map is not None, "SFT refuses demonstrations without a step map"
    size = canvas.size_of(len(prompt_ids), len(response_ids))
    block = size if canvas.is_full or canvas.block is None else canvas.block
    # The pads of `views.post_num`, which are no part of the record, follow as one last step.
    num_pads = len(response_ids) - len(step_map)
    steps = torch.tensor([*step_map, *[max(step_map) + 1] * num_pads])
    offset = 0 if canvas.is_full else len(prompt_ids) % block
    hidden, target = trace_views(steps - steps.min() + 1, block, offset, shrink)
    return views_under_noise(prompt_ids, response_ids, size, block, target, hidden)
