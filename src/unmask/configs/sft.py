"""The configuration of `unmask sft`."""

from pathlib import Path

from pydantic import Field

from unmask.configs.engine import EngineConfig
from unmask.configs.evaluation import EvalSection
from unmask.configs.lora import LoRAConfig
from unmask.configs.model import ModelConfig
from unmask.configs.noise import NoiseConfig
from unmask.configs.objective import Reduction
from unmask.configs.optimizer import OptimizerConfig
from unmask.configs.run import RunConfig
from unmask.configs.section import Section
from unmask.configs.task import TaskConfig


class SFTDataConfig(Section):
    """Where demonstrations come from."""

    path: Path | None = None
    """JSON or JSON Lines file of `prompt` and `response` texts; the task's own demonstrations when
    not given."""
    batch_size: int = Field(default=32, ge=1, le=2**20)
    """Demonstrations per optimizer step."""


class LossConfig(Section):
    """What SFT minimises."""

    reduction: Reduction = "tokens"
    """What the loss is averaged over. `tokens` counts every hidden token the same; `view` (published
    for full attention) every noisy view, so that a token counts about 1/t; `sequence` every
    demonstration; `constant` (published for blocks) divides by views x the longest response."""


class SFTConfig(Section):
    """Supervised fine-tuning by block diffusion."""

    steps: int = Field(default=1000, ge=1)
    """Optimizer steps."""
    save_every: int = Field(default=100, ge=0)
    """Steps between checkpoints for `--resume`; 0 saves only at the end."""
    run: RunConfig = RunConfig()
    """Where the run keeps its files."""
    model: ModelConfig
    """Which checkpoint is trained."""
    lora: LoRAConfig | None = None
    """Train adapters beside the weights instead of the weights; without it every weight is trained."""
    task: TaskConfig | None = None
    """What is asked: the source of demonstrations if `data.path` is none, and what is evaluated."""
    engine: EngineConfig = EngineConfig()
    """How many responses are written at the same time."""
    data: SFTDataConfig = SFTDataConfig()
    """Where demonstrations come from."""
    noise: NoiseConfig = NoiseConfig()
    """Which tokens are hidden."""
    loss: LossConfig = LossConfig()
    """What is minimised."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """How the weights change."""
    eval: EvalSection = EvalSection()
    """When the model is measured."""
