"""The plan of a config on some devices."""

from dataclasses import dataclass, replace
from pathlib import Path

from unmask.checkpoints.checkpoint import read_spec
from unmask.models.spec import ModelSpec
from unmask.planning.devices import Device
from unmask.planning.job import Config, Job, Lengths, job_of
from unmask.planning.memory import Memory, chosen_budget, memory_of
from unmask.planning.published import SHAPES, published_shape
from unmask.planning.seconds import Seconds, seconds_of


@dataclass(frozen=True, slots=True)
class Plan:
    """The cost of a job.

    Attributes:
        job: what is run.
        memory: of each device.
        seconds: of a step.
    """

    job: Job
    memory: Memory
    seconds: Seconds


@dataclass(frozen=True, slots=True)
class Case:
    """A config on devices.

    Attributes:
        config: of the run.
        spec: of its model.
        device: that it runs on.
        count: number of devices.
        lengths: assumed.
    """

    config: Config
    spec: ModelSpec
    device: Device
    count: int
    lengths: Lengths

    def plan(self) -> Plan:
        """Return the cost.

        Raises:
            ValueError: as `job_of`.
        """
        job = job_of(self.config, self.spec, self.device, self.count, self.lengths)
        target = self.config.optimizer.memory
        if not job.token_budget and target is not None:
            job = replace(job, token_budget=chosen_budget(job, self.device, target))
        memory = memory_of(job, self.device)
        return Plan(job, memory, seconds_of(job, self.device, max(1, memory.sequences)))


def spec_of(config: Config) -> ModelSpec:
    """Return the shape of a config's model: of its `config.json`, or of the published model that it names.

    Raises:
        ValueError: if there is neither; nothing is downloaded.
    """
    path, model = Path(config.model.path), config.model
    found = published_shape(str(path))
    if (path / "config.json").is_file():
        return read_spec(path, model.mask_id, model.block_size, model.family)
    if found is None:
        raise ValueError(
            f"model.path = {path}: there is no {path / 'config.json'}, and a plan downloads nothing; give "
            f"a directory with that file, or the name of an SDAR, TraDo, LLaDA or Dream of {', '.join(SHAPES)}, "
            "such as JetLM/SDAR-8B-Chat"
        )
    return found if model.block_size is None else replace(found, block_size=model.block_size)
