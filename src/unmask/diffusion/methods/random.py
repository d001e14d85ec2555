"""Views under random masks: of rollouts (`diffusion/masked_views.py`) and of demonstrations."""

from collections.abc import Sequence

from unmask.configs.methods.random_mask import RandomMask
from unmask.configs.methods.views.random import RandomViews
from unmask.diffusion.masked_views import masked_views
from unmask.diffusion.noise import NoiseSchedule
from unmask.diffusion.views import Views, views_of_responses, views_of_trajectory
from unmask.types import Trajectory


def of_trajectory(
    trajectory: Trajectory,
    advantage: float | Sequence[float],
    config: RandomMask,
    is_full: bool,
    is_coupled: bool = False,
) -> Views:
    """Return one view per mask, or a view and its complement; see `masked_views`."""
    traced = views_of_trajectory(trajectory, advantage, 1, config.post_num, is_full)
    seed, schedule = trajectory.sampling.seed, schedule_of(config)
    return masked_views(traced, seed, config.count, schedule, is_coupled, is_full)


def of_demonstrations(
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    config: RandomViews,
    block: int | None,
    seeds: Sequence[int],
    canvas_tokens: int = 0,
) -> list[Views]:
    """Return fresh noisy views of responses; see `views_of_responses`."""
    return views_of_responses(
        pairs, block, (schedule_of(config), config.count), seeds, canvas_tokens
    )


def schedule_of(config: RandomMask) -> NoiseSchedule:
    """Return the noise levels of a config."""
    return NoiseSchedule(config.low, config.high, config.level)
