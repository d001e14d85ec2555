"""`[optimizer]`: AdamW, its learning rate, and the size of a forward and backward pass."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from unmask.configs.section import Section

Decay = Annotated[float, Field(ge=0, lt=1)]


class OptimizerConfig(Section):
    """AdamW and its learning rate."""

    lr: float = Field(default=1e-5, gt=0)
    """Learning rate after warm-up."""
    betas: tuple[Decay, Decay] = (0.9, 0.95)
    """AdamW's two decay rates."""
    eps: float = Field(default=1e-8, gt=0)
    """AdamW's epsilon."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay; not applied to norms and biases."""
    clip_norm: float | None = Field(default=1.0, gt=0)
    """Largest global norm of the gradients, which are scaled down to it; none is no limit."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """Learning rate after warm-up: constant, or falling to `final_lr_share` of `lr` at the last
    step."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps of the run over which the learning rate rises linearly from zero."""
    final_lr_share: float = Field(default=0.0, ge=0, le=1)
    """Share of `lr` left at the last step of `cosine` and `linear`."""
    token_budget: int = Field(default=8192, ge=16)
    """Maximum number of tokens in one forward and backward pass; a batch is split into as many passes as
    it needs."""

    @model_validator(mode="after")
    def _final_lr_is_reached(self) -> Self:
        if self.schedule == "constant" and self.final_lr_share != 0:
            raise ValueError(
                f"final_lr_share = {self.final_lr_share} has no effect with schedule = 'constant': "
                "give schedule = 'cosine' or 'linear', or leave it out"
            )
        return self


class PolicyOptimizerConfig(OptimizerConfig):
    """The optimizer of RL, whose state is kept across RL steps."""

    reset_every_step: bool = False
    """Reset AdamW's moments at the start of every RL step, as the published runs do."""
