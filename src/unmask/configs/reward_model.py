"""The configuration of `unmask reward-model`."""

from typing import ClassVar

from pydantic import Field, model_validator

from unmask.configs.lora import LoRAConfig
from unmask.configs.model import TrainedModelConfig
from unmask.configs.optimizer import Optimizer, OptimizerConfig
from unmask.configs.pairs import PairsConfig
from unmask.configs.run import RunConfig
from unmask.configs.section import Section


class RewardModelConfig(Section):
    """A reward model from preference pairs: a backbone under a head of one number (Bradley-Terry)."""

    lora: ClassVar[LoRAConfig | None] = None
    steps: int = Field(default=1000, ge=1)
    """Optimizer steps."""
    epochs: float | None = Field(default=None, gt=0)
    """Passes over the pairs, in place of `steps`."""
    save_every: int = Field(default=100, ge=0)
    """Steps between checkpoints for `--resume`; 0 saves only at the end."""
    measure_every: int = Field(default=0, ge=0)
    """Steps between measurements of `pairs.validation`; 0 measures only at the end."""
    run: RunConfig = RunConfig()
    """Where the run keeps its files."""
    model: TrainedModelConfig
    """Which checkpoint is trained: a policy, whose backbone gets a new head, or a reward model."""
    pairs: PairsConfig = PairsConfig()
    """Where preference pairs come from; their texts are rendered as RL renders the answers that are scored."""
    optimizer: Optimizer = OptimizerConfig()
    """How the weights change."""

    @model_validator(mode="after")
    def _consistent(self) -> "RewardModelConfig":
        self.pairs.check_given()
        if self.model.batch_invariant:
            raise ValueError(
                "model.batch_invariant = true: makes engine and learner agree, and a reward model has no engine: "
                "leave it out"
            )
        if self.epochs is not None and "steps" in self.model_fields_set:
            raise ValueError(f"epochs = {self.epochs}: give steps or epochs, not both")
        if self.measure_every and self.pairs.validation is None:
            raise ValueError(
                f"measure_every = {self.measure_every}: there is no pairs.validation to measure"
            )
        if self.pairs.rendered or self.pairs.layout == "tokens":
            key = "rendered = true" if self.pairs.rendered else 'layout = "tokens"'
            raise ValueError(
                f"pairs.{key}: a reward model reads conversations, as RL gives them to it: give texts or "
                "messages; `unmask dpo` trains on such pairs as they are"
            )
        return self
