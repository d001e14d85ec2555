"""The settings of `unmask generate` that its processes compare; the command makes them from its options."""

from unmask.configs.distributed import DistributedConfig
from unmask.configs.engine import EngineConfig
from unmask.configs.model import ModelConfig
from unmask.configs.run import RunConfig
from unmask.configs.section import Section


class GenerateConfig(Section):
    """Responses of a model to prompts."""

    run: RunConfig = RunConfig()
    """The directory of the file that is written."""
    model: ModelConfig
    """The model."""
    engine: EngineConfig = EngineConfig()
    """The size of the engine."""
    distributed: DistributedConfig = DistributedConfig()
    """The processes."""
