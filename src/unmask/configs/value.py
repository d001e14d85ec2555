"""`[value]`: a critic that tells each token of a response what it is worth."""

from typing import Literal

from pydantic import Field

from unmask.configs.section import Section


class ValueConfig(Section):
    """TraceRL's value model: a backbone of its own that is trained beside the policy."""

    enabled: bool = False
    """Train a critic, and give each token an advantage of its own: what followed it, less its
    value. Needs the memory of a second model and its optimizer."""
    path: str | None = None
    """Directory or hub id the critic starts from; the policy's `model.path` when not given."""
    head: Literal["zero", "stored"] = "zero"
    """`zero` lays a new head on a policy's backbone, which says 0 of everything at first; `stored`
    goes on with the head of a critic that an earlier run left."""
    lr: float = Field(default=5e-6, gt=0)
    """Learning rate of the critic; its schedule, warm-up and the rest are those of `optimizer`."""
    gamma: float = Field(default=1.0, ge=0, le=1)
    """Discount per denoising step; published: 1 for a reward per response, 0.99 for rewards along
    the response."""
    lam: float = Field(default=1.0, ge=0, le=1)
    """How far an advantage looks before it trusts the values: 1 is to the end of the response, 0 is
    one denoising step."""
    clip: float = Field(default=0.2, gt=0)
    """A value that has moved this far from what it was at the start of the step is not moved on."""
    train_every: int = Field(default=1, ge=1)
    """RL steps between the critic's updates; its values are used in every step."""
    minibatches: int = Field(default=1, ge=1)
    """Optimizer steps of the critic per epoch, over the trajectories of one RL step."""
    epochs: int = Field(default=1, ge=1)
    """Times the critic goes over the trajectories of one RL step."""
