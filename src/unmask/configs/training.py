"""The configurations of the commands that train a model."""

from unmask.configs.dpo import DPOConfig
from unmask.configs.reward_model import RewardModelConfig
from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig

PolicyConfig = SFTConfig | DPOConfig | RLConfig
TrainingConfig = PolicyConfig | RewardModelConfig
