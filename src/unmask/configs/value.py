"""`[value]`: a critic that tells each token of a response what it is worth."""

from typing import Literal

from pydantic import Field, model_validator

from unmask.configs.lora import LoRAConfig
from unmask.configs.section import Section

# Of a critic with optimizer steps of its own.
OWN_STEPS = ("train_every", "minibatches", "epochs")


class ValueConfig(Section):
    """TraceRL's value model: what the critic stands on, and how it is trained."""

    enabled: bool = False
    """Train a critic, and give each token an advantage of its own: what followed it, less its
    value. Needs the memory of a second model and its optimizer, unless it has `lora` or
    `shares_backbone`."""
    shares_backbone: bool = False
    """Read the values off the policy's own backbone, by a second head that is trained in the policy's
    optimizer steps; no second model."""
    weight: float = Field(default=0.5, gt=0)
    """What the value loss counts beside the policy's, with `shares_backbone`."""
    lora: LoRAConfig | None = None
    """Train adapters and the head of a critic of its own instead of all its weights; beside `[lora]` and
    without `path` it stands on the policy's frozen weights, which are then held once."""
    path: str | None = None
    """Directory or hub id the critic starts from; the policy's `model.path` when not given. With
    `shares_backbone` only its head is taken, by `head = "stored"`."""
    head: Literal["zero", "stored"] = "zero"
    """`zero` lays a new head on a policy's backbone, which says 0 of everything at first; `stored`
    goes on with the head of a critic that an earlier run left."""
    lr: float = Field(default=5e-6, gt=0)
    """Learning rate of the critic, of its head alone with `shares_backbone`; the default is the
    published one, a tiny model wants about five times its policy's. Its schedule, warm-up,
    `reset_every_step` and the rest are those of `optimizer`."""
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

    @model_validator(mode="after")
    def _consistent(self) -> "ValueConfig":
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        if not self.shares_backbone:
            if self.weight != defaults["weight"]:
                raise ValueError(
                    f"weight = {self.weight} has no effect on a critic with optimizer steps of its "
                    "own: set lr, or shares_backbone = true"
                )
            return self
        for name in OWN_STEPS:
            if getattr(self, name) != defaults[name]:
                raise ValueError(
                    f"{name} = {getattr(self, name)} has no effect with shares_backbone: the head "
                    f"learns in the policy's own steps; leave {name} out"
                )
        if self.lora is not None:
            raise ValueError(
                "lora has no effect with shares_backbone: the policy's adapters, [lora], serve both"
            )
        if self.path is not None and self.head == "zero":
            raise ValueError(
                f"path = {self.path} has no effect with shares_backbone and a new head: leave it "
                'out, or take its head by head = "stored"'
            )
        return self
