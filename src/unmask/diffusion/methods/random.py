"""Views under random masks: of rollouts (`diffusion/masked_views.py`) and of demonstrations."""

from collections.abc import Sequence

from unmask.configs.methods.random_mask import RandomMask
from unmask.diffusion.masked_views import masked_views
from unmask.diffusion.noise import NoiseSchedule
from unmask.diffusion.views import (
    Canvas,
    Demonstrated,
    Views,
    views_of_responses,
    views_of_text,
)
from unmask.types import Trajectory


def of_trajectory(
    trajectory: Trajectory,
    advantage: float | Sequence[float],
    config: RandomMask,
    is_full: bool,
) -> Views:
    """Return one view per mask; see `masked_views`."""
    traced = views_of_text(trajectory, advantage, config.post_num, is_full)
    seed, schedule = trajectory.sampling.seed, schedule_of(config)
    return masked_views(traced, seed, config.count, schedule, 1, is_full)


def of_demonstrations(
    demonstrations: Sequence[Demonstrated],
    config: RandomMask,
    canvas: Canvas,
    seeds: Sequence[int],
) -> list[Views]:
    """Return fresh noisy views of responses; see `views_of_responses`."""
    pairs = [(prompt_ids, response_ids) for prompt_ids, response_ids, _ in demonstrations]
    noise = schedule_of(config), config.count
    return views_of_responses(
        pairs, None if canvas.is_full else canvas.block, noise, seeds, canvas.fewest
    )


def schedule_of(config: RandomMask) -> NoiseSchedule:
    """Return the noise levels of a config."""
    return NoiseSchedule(config.low, config.high, config.level, config.spread)
