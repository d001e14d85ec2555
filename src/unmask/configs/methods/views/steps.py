"""`views.kind = "steps"`: some denoising steps of a trajectory, drawn at random (AGRPO, arXiv 2510.04019)."""

from typing import Literal

from pydantic import Field

from unmask.configs.methods.view_section import ViewSection


class StepsViews(ViewSection):
    """A sample of the states the sampler was in."""

    kind: Literal["steps"] = "steps"
    """How a response becomes noisy views: `steps` draws some of the views of `trace`, evenly spaced from a
    drawn start, and weighs each by the inverse of the probability with which it is drawn."""
    count: int = Field(default=8, ge=1, le=1024)
    """Denoising steps of each response that are trained; all where there are fewer. Published: 24."""

    @property
    def is_sampler_path(self) -> bool:
        """Whether no block is enlarged: a view that is drawn is the sampler's state."""
        return self.train_block is None
