"""`views.kind = "coupled"`: random masks and their complements, the coupled RL of dLLM-RL."""

from typing import Literal

from unmask.configs.methods.random_mask import RandomMask


class CoupledViews(RandomMask):
    """Two views per mask, each with a ratio of its own: the mask, and its complement."""

    kind: Literal["coupled"] = "coupled"
    """How a response becomes noisy views: a random mask and its complement."""
