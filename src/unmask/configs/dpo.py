"""The configuration of `unmask dpo`."""

from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from unmask.configs.distributed import DistributedConfig
from unmask.configs.engine import EngineConfig
from unmask.configs.evaluation import EvalSection
from unmask.configs.lora import LoRAConfig, check_trained_parts
from unmask.configs.methods import choose
from unmask.configs.methods.loss.dpo import DPOLoss
from unmask.configs.methods.views.block_steps import BlockStepsViews
from unmask.configs.methods.views.counted import CountedViews
from unmask.configs.methods.views.quadrature import QuadratureViews
from unmask.configs.methods.views.random import RandomViews
from unmask.configs.methods.views.trace import TraceViews
from unmask.configs.model import TrainedModelConfig
from unmask.configs.optimizer import Optimizer, OptimizerConfig
from unmask.configs.pairs import PairsConfig
from unmask.configs.run import RunConfig
from unmask.configs.section import Section
from unmask.configs.task import TaskConfig

if TYPE_CHECKING:
    Views = CountedViews | RandomViews | QuadratureViews | BlockStepsViews | TraceViews
    Loss = DPOLoss
else:
    Views = choose("views", "pairs", "counted")
    Loss = choose("loss", "pairs", "dpo")


class DPOConfig(Section):
    """Training on preference pairs, without rollouts."""

    steps: int = Field(default=1000, ge=1)
    """Optimizer steps."""
    epochs: float | None = Field(default=None, gt=0)
    """Passes over the pairs, in place of `steps`."""
    save_every: int = Field(default=100, ge=0)
    """Steps between checkpoints for `--resume`; 0 saves only at the end."""
    run: RunConfig = RunConfig()
    """Where the run keeps its files."""
    model: TrainedModelConfig
    """Which checkpoint is trained."""
    lora: LoRAConfig | None = None
    """Train adapters instead of the weights, which are then the reference; without it every weight is
    trained."""
    task: TaskConfig | None = None
    """What the model is evaluated on, if anything."""
    engine: EngineConfig = EngineConfig()
    """How many responses are written at the same time in an evaluation."""
    distributed: DistributedConfig = DistributedConfig()
    """How several processes share the work."""
    pairs: PairsConfig = PairsConfig()
    """Where preference pairs come from."""
    views: Views = CountedViews()
    """The noisy views that the log-likelihood of an answer is estimated from, the same for policy and
    reference."""
    loss: Loss = DPOLoss()
    """What is minimised."""
    optimizer: Optimizer = OptimizerConfig()
    """How the weights change."""
    eval: EvalSection = EvalSection()
    """When the model is measured."""

    @model_validator(mode="after")
    def _consistent(self) -> "DPOConfig":
        check_trained_parts(self.model, self.lora)
        self.pairs.check_given()
        if self.eval.every > 0 and self.task is None and self.pairs.validation is None:
            raise ValueError(
                f"eval.every = {self.eval.every}: there is no [task] to evaluate on, and no "
                "pairs.validation"
            )
        if self.epochs is not None and "steps" in self.model_fields_set:
            raise ValueError(f"epochs = {self.epochs}: give steps or epochs, not both")
        low, high = getattr(self.views, "low", 0.0), getattr(self.views, "high", 1.0)
        if low > 0.01 or high < 1:
            raise ValueError(
                f'views.low = {low}, views.high = {high}: loss.kind = "{self.loss.kind}" needs an estimate of '
                "the log-likelihood, for which noise levels fill (0, 1]: set views.high = 1 and views.low to "
                '0.01 or less, or views.kind = "counted"'
            )
        if self.views.post_num:
            raise ValueError(
                f"views.post_num = {self.views.post_num} must be 0: nothing stands right of an answer"
            )
        return self
