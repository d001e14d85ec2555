"""The configuration of `unmask eval`."""

from typing import Literal

from pydantic import Field

from unmask.configs.engine import EngineConfig
from unmask.configs.model import ModelConfig
from unmask.configs.run import RunConfig
from unmask.configs.sampling import SamplingConfig
from unmask.configs.section import Section
from unmask.configs.task import TaskConfig


class EvalConfig(Section):
    """Measuring a model on a task."""

    run: RunConfig = RunConfig()
    """Where the results are written."""
    model: ModelConfig
    """Which checkpoint is measured."""
    task: TaskConfig
    """What is asked, and how answers are judged."""
    split: Literal["train", "validation", "test"] = "test"
    """Which problems."""
    problems: int | None = Field(default=None, ge=1)
    """Most problems of the split; none is all."""
    samples: int = Field(default=1, ge=1)
    """Responses per problem; accuracy is their mean (avg@n)."""
    engine: EngineConfig = EngineConfig()
    """How many responses are written at the same time."""
    sampling: SamplingConfig = SamplingConfig()
    """How responses are unmasked."""
