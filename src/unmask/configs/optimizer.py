"""`[optimizer]`: how a gradient becomes a change of the weights."""

from typing import Literal

from pydantic import Field, field_validator

from unmask.configs.section import Section


class OptimizerConfig(Section):
    """AdamW and its learning rate."""

    lr: float = Field(default=1e-5, gt=0)
    """Learning rate after warm-up."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's two decay rates."""
    eps: float = Field(default=1e-8, gt=0)
    """AdamW's epsilon."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay; norms and biases have none."""
    clip_norm: float | None = Field(default=1.0, gt=0)
    """Gradients are scaled down to this global norm; none is no limit."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """Learning rate after warm-up: constant, or falling to `final_lr_share` of `lr` at the last
    step."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps of the run over which the learning rate rises linearly from zero."""
    final_lr_share: float = Field(default=0.0, ge=0, le=1)
    """Share of `lr` left at the last step of `cosine` and `linear`."""
    token_budget: int = Field(default=8192, ge=16)
    """Most tokens of one forward and backward pass; a batch is split into as many passes as it
    needs."""

    @field_validator("betas")
    @classmethod
    def _decays(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"decay rates {betas} must lie from 0 to below 1")
        return betas


class PolicyOptimizerConfig(OptimizerConfig):
    """The optimizer of RL, which lives across its steps."""

    reset_every_step: bool = False
    """Forget AdamW's moments at the start of every RL step, as the published runs do."""
