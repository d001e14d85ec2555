"""The configuration of `unmask rl`."""

from pydantic import Field, model_validator

from unmask.configs.alarm import AlarmConfig
from unmask.configs.engine import EngineConfig
from unmask.configs.evaluation import EvalSection
from unmask.configs.lora import LoRAConfig
from unmask.configs.model import ModelConfig
from unmask.configs.objective import (
    AdvantageConfig,
    FilterConfig,
    ObjectiveConfig,
    ReferenceConfig,
)
from unmask.configs.optimizer import PolicyOptimizerConfig
from unmask.configs.reward import OutcomeTerm, RewardTerm, check_terms
from unmask.configs.rollout import RolloutConfig
from unmask.configs.run import RunConfig
from unmask.configs.sampling import SamplingConfig
from unmask.configs.section import Section
from unmask.configs.task import TaskConfig
from unmask.configs.value import ValueConfig


class RLConfig(Section):
    """Reinforcement learning along the trajectory (TraceRL)."""

    steps: int = Field(default=100, ge=1)
    """RL steps: each draws prompts, writes responses, judges them and updates the weights."""
    save_every: int = Field(default=10, ge=0)
    """Steps between checkpoints for `--resume`; 0 saves only at the end."""
    minibatches: int = Field(default=1, ge=1)
    """Optimizer steps per epoch: the step's trajectories are shuffled and split into this many."""
    epochs: int = Field(default=1, ge=1)
    """Passes over a step's trajectories, each in a new order, all measured from the policy that
    started the step."""
    run: RunConfig = RunConfig()
    """Where the run keeps its files."""
    model: ModelConfig
    """Which checkpoint is trained."""
    lora: LoRAConfig | None = None
    """Train adapters beside the weights instead of the weights; without it every weight is trained."""
    task: TaskConfig
    """What is asked, and how answers are judged."""
    reward: tuple[RewardTerm, ...] = (OutcomeTerm(),)
    """What an answer earns: the weighted sum of these terms, in TOML one `[[reward]]` table each;
    what the task's grader says, when none is given."""
    engine: EngineConfig = EngineConfig()
    """How many responses are written at the same time."""
    rollout: RolloutConfig = RolloutConfig()
    """How many trajectories make a step."""
    sampling: SamplingConfig = SamplingConfig()
    """How they are unmasked."""
    filter: FilterConfig = FilterConfig()
    """Which groups are trained on."""
    advantage: AdvantageConfig = AdvantageConfig()
    """What a reward is compared with."""
    objective: ObjectiveConfig = ObjectiveConfig()
    """What is maximised."""
    reference: ReferenceConfig = ReferenceConfig()
    """What a KL penalty may hold the policy to."""
    optimizer: PolicyOptimizerConfig = PolicyOptimizerConfig()
    """How the weights change."""
    alarm: AlarmConfig = AlarmConfig()
    """What deserves a warning."""
    eval: EvalSection = EvalSection()
    """When the model is measured."""
    value: ValueConfig = ValueConfig()
    """The critic, if there is one."""

    @model_validator(mode="after")
    def _trainable_rewards(self) -> "RLConfig":
        check_terms(self.reward, self.value.enabled)
        return self

    @property
    def is_single_update(self) -> bool:
        """Whether a step has one update, which starts at the policy it is measured from."""
        return self.minibatches == 1 and self.epochs == 1
