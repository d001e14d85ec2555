"""`[optimizer]`: which one, its learning rate, and the size of a forward and backward pass.

`kind` selects the section and the module of `trainers/optimizers/` that builds it. RL's sections have one
more key.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from unmask.configs.section import Section

Decay = Annotated[float, Field(ge=0, lt=1)]
Gibibytes = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class OptimizerSection(Section):
    """AdamW's keys, which every optimizer has, and the learning rate."""

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
    token_budget: int | None = Field(default=None, ge=16)
    """Maximum number of tokens in one forward and backward pass; a batch is split into as many passes as
    it needs. `memory` chooses it when not given."""
    memory: Literal["auto"] | Gibibytes | None = "auto"
    """Memory that chooses the token budget: GiB on each device for one trained model's weights, gradients,
    optimizer and activations, or `auto`: on a GPU what is free; on a CPU as much as the published layout would
    take, one row per denoising round. `none` where `token_budget` is given."""
    offload: bool = False
    """Keep the optimizer's moments and fp32 copies of the trained weights in host memory, where the step is
    computed: less device memory, slower steps."""

    @model_validator(mode="before")
    @classmethod
    def _budget_is_given(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("token_budget") is not None:  # pyright: ignore[reportUnknownMemberType]
            return {"memory": None, **values}
        return values  # pyright: ignore[reportUnknownVariableType]

    @model_validator(mode="after")
    def _one_decides_the_budget(self) -> Self:
        if self.token_budget is not None and self.memory is not None:
            raise ValueError(
                f"token_budget = {self.token_budget}, memory = {self.memory}: memory chooses the token budget: give "
                'one of them, and "none" for the other if a file sets it'
            )
        if self.token_budget is None and self.memory is None:
            raise ValueError('memory = "none": give token_budget, or memory = "auto"')
        return self

    @model_validator(mode="after")
    def _final_lr_is_reached(self) -> Self:
        if self.schedule == "constant" and self.final_lr_share != 0:
            raise ValueError(
                f"final_lr_share = {self.final_lr_share} has no effect with schedule = 'constant': "
                "give schedule = 'cosine' or 'linear', or leave it out"
            )
        return self


class OptimizerConfig(OptimizerSection):
    """AdamW."""

    kind: Literal["adamw"] = "adamw"
    """`adamw`; `muon` for matrices of the layers, with AdamW for the other weights; `adamw_8bit` keeps
    AdamW's moments in 8 bits (extra `torchao`)."""


class MuonConfig(OptimizerSection):
    """Muon (Jordan 2024) for the matrices of the layers; AdamW for embedding, head, norms, biases and experts."""

    kind: Literal["muon"] = "muon"
    """`adamw`; `muon` for matrices of the layers, with AdamW for the other weights; `adamw_8bit` keeps
    AdamW's moments in 8 bits (extra `torchao`)."""
    momentum: float = Field(default=0.95, ge=0, lt=1)
    """Muon's decay rate of the summed gradients, with Nesterov's step."""
    iterations: int = Field(default=5, ge=1, le=99)
    """Newton-Schulz iterations that make an update orthogonal. Its size is scaled to that of AdamW, so
    that `lr` and `weight_decay` mean the same for both."""


class AdamW8bitConfig(OptimizerSection):
    """AdamW with moments in 8 bits, quantised in groups of 256 (arXiv 2110.02861)."""

    kind: Literal["adamw_8bit"] = "adamw_8bit"
    """`adamw`; `muon` for matrices of the layers, with AdamW for the other weights; `adamw_8bit` keeps
    AdamW's moments in 8 bits (extra `torchao`)."""

    @model_validator(mode="after")
    def _stays_on_the_device(self) -> Self:
        if self.offload:
            raise ValueError(
                "offload = true: adamw_8bit has no step for host memory; give kind = 'adamw' or 'muon', or "
                "leave it out"
            )
        return self


class ResetSection(Section):
    """What RL adds: its optimizer's state is kept across RL steps."""

    reset_every_step: bool = False
    """Reset the optimizer's moments at the start of every RL step, as the published runs do."""


class PolicyOptimizerConfig(ResetSection, OptimizerConfig):
    """AdamW of RL."""


class PolicyMuonConfig(ResetSection, MuonConfig):
    """Muon of RL."""


class PolicyAdamW8bitConfig(ResetSection, AdamW8bitConfig):
    """AdamW with moments in 8 bits, of RL."""


def _with_kind(value: Any) -> Any:
    return {"kind": "adamw", **value} if isinstance(value, dict) else value  # pyright: ignore[reportUnknownVariableType]


if TYPE_CHECKING:
    Optimizer = OptimizerSection
    PolicyOptimizer = PolicyOptimizerConfig
else:
    Optimizer = Annotated[
        OptimizerConfig | MuonConfig | AdamW8bitConfig,
        Field(discriminator="kind"),
        BeforeValidator(_with_kind),
    ]
    PolicyOptimizer = Annotated[
        PolicyOptimizerConfig | PolicyMuonConfig | PolicyAdamW8bitConfig,
        Field(discriminator="kind"),
        BeforeValidator(_with_kind),
    ]
