"""The views of a trajectory by the keys of `[views]`."""

from typing import Any

from tests.trainers.toy_methods import row
from unmask.configs.methods import partner
from unmask.diffusion.views import Views
from unmask.types import Trajectory


def views_of(
    trajectory: Trajectory, choice: dict[str, Any] | None = None, is_full: bool = False
) -> Views:
    """Return the views of a row of the method table, with the advantage 1."""
    views = row(choice).views
    method = partner(views, "unmask.diffusion.methods")
    return method.of_trajectory(trajectory, 1.0, views, is_full)
