"""The configuration of `unmask sft`."""

from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from unmask.configs.distributed import DistributedConfig
from unmask.configs.engine import EngineConfig
from unmask.configs.evaluation import EvalSection
from unmask.configs.lora import LoRAConfig, check_trained_parts
from unmask.configs.methods import choose
from unmask.configs.methods.loss.likelihood import LikelihoodLoss
from unmask.configs.methods.views.random import RandomViews
from unmask.configs.model import TrainedModelConfig
from unmask.configs.optimizer import Optimizer, OptimizerConfig
from unmask.configs.run import RunConfig
from unmask.configs.section import Section
from unmask.configs.sft_data import SFTDataConfig
from unmask.configs.task import TaskConfig

if TYPE_CHECKING:
    Views = RandomViews
    Loss = LikelihoodLoss
else:
    Views = choose("views", "demonstrations", "random")
    Loss = choose("loss", "demonstrations", "likelihood")


class SFTConfig(Section):
    """Supervised fine-tuning by block diffusion."""

    steps: int = Field(default=1000, ge=1)
    """Optimizer steps."""
    epochs: float | None = Field(default=None, gt=0)
    """Passes over the demonstrations, in place of `steps`; a pass over weighted sources has as many draws
    as they have demonstrations."""
    save_every: int = Field(default=100, ge=0)
    """Steps between checkpoints for `--resume`; 0 saves only at the end."""
    early_stop: int | None = Field(default=None, ge=1)
    """The run ends after so many measurements of `data.validation` in a row without a new minimum of
    `val_nll`, one every `eval.every` steps; its model is that of the last step."""
    peak_tflops: float | None = Field(default=None, gt=0)
    """Peak of the device in 10^12 operations per second, in the number format of the model; with it the
    metric `mfu` is the share of it that a step reaches."""
    run: RunConfig = RunConfig()
    """Where the run keeps its files."""
    model: TrainedModelConfig
    """Which checkpoint is trained."""
    lora: LoRAConfig | None = None
    """Train adapters instead of the weights, which stay as they are; without it every weight is trained."""
    task: TaskConfig | None = None
    """What is asked: the source of demonstrations if `[data]` names none, and what is evaluated."""
    engine: EngineConfig = EngineConfig()
    """How many responses are written at the same time."""
    distributed: DistributedConfig = DistributedConfig()
    """How several processes share the work."""
    data: SFTDataConfig = SFTDataConfig()
    """Where demonstrations come from."""
    views: Views = RandomViews()
    """The noisy views of a response that are trained."""
    loss: Loss = LikelihoodLoss()
    """What is minimised."""
    optimizer: Optimizer = OptimizerConfig()
    """How the weights change."""
    eval: EvalSection = EvalSection()
    """When the model is measured."""

    @model_validator(mode="after")
    def _consistent(self) -> "SFTConfig":
        check_trained_parts(self.model, self.lora)
        if self.eval.every > 0 and self.task is None and self.data.validation is None:
            raise ValueError(
                f"eval.every = {self.eval.every}: there is no [task] to evaluate on, and no "
                "data.validation"
            )
        if self.early_stop and (self.data.validation is None or self.eval.every == 0):
            raise ValueError(
                f"early_stop = {self.early_stop} measures data.validation every eval.every steps: give both"
            )
        if self.epochs is not None and "steps" in self.model_fields_set:
            raise ValueError(f"epochs = {self.epochs}: give steps or epochs, not both")
        if self.epochs is not None and self.data.streams:
            raise ValueError(f"epochs = {self.epochs}: a stream has no known end: give steps")
        if self.views.is_causal and self.data.canvas_tokens:
            raise ValueError(
                f"data.canvas_tokens = {self.data.canvas_tokens} has no effect: under "
                f'views.kind = "{self.views.kind}" no token attends to the right'
            )
        if self.loss.weight == "elbo" and not self.views.has_noise_levels:
            raise ValueError(
                f'loss.weight = "elbo" divides by the noise level, which views.kind = '
                f'"{self.views.kind}" does not have'
            )
        if self.loss.weight == "elbo" and (self.views.low > 0.01 or self.views.high < 1):
            raise ValueError(
                f"views.low = {self.views.low}, views.high = {self.views.high}: with loss.weight = "
                '"elbo" the loss bounds the likelihood only if noise levels fill (0, 1]: set '
                "views.high = 1 and views.low to 0.01 or less"
            )
        return self
