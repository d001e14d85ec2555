"""TraceRL's views: the states the sampler was in (`diffusion/trace.py`)."""

from collections.abc import Sequence

from unmask.configs.methods.views.trace import TraceViews
from unmask.diffusion.views import Views, views_of_trajectory
from unmask.types import Trajectory


def of_trajectory(
    trajectory: Trajectory, advantage: float | Sequence[float], config: TraceViews, is_full: bool
) -> Views:
    """Return one view per denoising step, or per `shrink` of them; see `views_of_trajectory`."""
    return views_of_trajectory(trajectory, advantage, config.shrink, config.post_num, is_full)
