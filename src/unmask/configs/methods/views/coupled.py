"""`views.kind = "coupled"`: random masks and their complements, the coupled RL of dLLM-RL and DiffuCoder."""

from typing import Literal

from unmask.configs.methods.random_mask import RandomMask


class CoupledViews(RandomMask):
    """Two views per mask, or three: the mask, its complement, and everything hidden."""

    kind: Literal["coupled"] = "coupled"
    """How a response becomes noisy views: a random mask and its complement."""
    whole: bool = False
    """A third view per mask that hides the whole response (DiffuCoder, with `loss.kind = "token_ratio"`)."""
