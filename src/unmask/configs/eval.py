"""The configuration of `unmask eval`.

Variations are merged into `[sampling]` when the configuration is read, so that the one stored with the
results holds every value of every sampling that was measured.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from unmask.configs.distributed import DistributedConfig
from unmask.configs.engine import EngineConfig
from unmask.configs.model import ModelConfig
from unmask.configs.run import RunConfig
from unmask.configs.sampling import SamplingConfig, with_preset
from unmask.configs.section import Section
from unmask.configs.task import TaskConfig


class EvalConfig(Section):
    """Evaluation of a model on a task."""

    run: RunConfig = RunConfig()
    """The run directory, to which results are written."""
    model: ModelConfig
    """The checkpoint to evaluate."""
    task: TaskConfig
    """The problems, and how answers are graded."""
    split: Literal["train", "validation", "test"] = "test"
    """Split of the problems."""
    problems: int | None = Field(default=None, ge=1)
    """Maximum number of problems, the first ones of the split; none is all."""
    samples: int = Field(default=1, ge=1, le=2**16)
    """Responses per problem; accuracy is their mean (avg@n)."""
    unfit: Literal["refuse", "wrong"] = "refuse"
    """Treatment of a problem that leaves no room for `sampling.max_tokens`: the run is refused (`refuse`),
    or its answers count as wrong and are reported as failed (`wrong`)."""
    engine: EngineConfig = EngineConfig()
    """The size of the engine, and its cache."""
    distributed: DistributedConfig = DistributedConfig()
    """How several processes share the work."""
    sampling: SamplingConfig = SamplingConfig()
    """How responses are unmasked."""
    variations: dict[str, SamplingConfig] = {}
    """Samplers to evaluate instead of `[sampling]`, each under a name without dots; keys that are not
    given are those of `[sampling]`: `variations.static.strategy=static`."""

    @property
    def samplings(self) -> dict[str, SamplingConfig]:
        """The samplers to evaluate, by name: the variations, or `sampling` under its strategy's name."""
        return self.variations or {self.sampling.strategy: self.sampling}

    @model_validator(mode="before")
    @classmethod
    def _lay_sampling_below(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        stated: dict[str, Any] = {**values}
        base, variations = stated.get("sampling", {}), stated.get("variations")
        if isinstance(base, Mapping) and isinstance(variations, Mapping):
            stated["variations"] = {
                name: {**base, **with_preset(table)} if isinstance(table, Mapping) else table
                for name, table in variations.items()
            }
        return stated
