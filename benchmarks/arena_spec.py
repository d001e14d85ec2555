"""The spec of an arena: which methods are compared, on which tasks, at which budgets (`benchmarks/arena/*.toml`).

A run is configured by tables laid over each other, later ones over earlier ones:

    configs/rl/TASK.toml < [tasks.TASK.rl] < [starts.START.rl] < configs/methods/FILE.toml
        < [methods.METHOD.overrides] < a table of [methods.METHOD] phases

An SFT model of a task, a start and a seed is the common start of all runs of that seed:

    configs/sft/TASK.toml < [tasks.TASK.sft] < [starts.START.sft]
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from unmask.configs.section import Section

CONFIGS = Path(__file__).parents[1] / "configs"
Table = dict[str, Any]


class TaskEntry(Section):
    """A task, and the size of its runs."""

    shape: tuple[int, int, int]
    """Width, layers and feed-forward width of the model."""
    rollouts: int = Field(ge=1)
    """The first budget, N: responses written to prompts and graded; drafts of a response do not count."""
    tokens: int = Field(ge=1)
    """The second budget, F: forwarded tokens of sampler and learner together."""
    every: int = Field(ge=1)
    """RL steps between evaluations; the steps of N rollouts are a multiple of it."""
    rates: tuple[float, ...]
    """Learning rates to choose from; a single one is taken as it is."""
    sft: Table = Field(default={})
    """Changed settings of SFT."""
    rl: Table = Field(default={})
    """Changed settings of RL."""


class StartEntry(Section):
    """A kind of SFT model."""

    family: str = "sdar"
    """Family of the model, which decides its attention."""
    block_size: int | None = None
    """Block size of the model; the family's own when not given."""
    sft: Table = Field(default={})
    """Changed settings of SFT."""
    rl: Table = Field(default={})
    """Changed settings of RL."""


class MethodEntry(Section):
    """A method, or a variant of one."""

    file: str | None = None
    """Its file in `configs/methods`; that of its name when not given."""
    label: str | None = None
    """Its name in tables; the entry's own when not given."""
    overrides: Table = Field(default={})
    """Changed settings."""
    start: str = "default"
    """The kind of SFT model it begins with."""
    baseline: str | None = None
    """What it is compared with; the spec's `baseline` when not given."""
    eval_block: int | None = Field(default=None, ge=1)
    """Block size of the evaluations; the model's own when not given."""
    phases: tuple[Table, ...] = ({},)
    """Changed settings of runs that follow each other from one model, each with an equal share of N rollouts
    and an optimizer of its own; the last one goes on to the end."""


class Spec(Section):
    """An arena."""

    baseline: str = "tracerl"
    """The method that others are compared with."""
    seeds: tuple[int, ...] = Field(min_length=1, max_length=10)
    """Seeds of the compared runs."""
    rate_seed: int = 1000
    """Seed of the runs that choose a learning rate; none of `seeds`."""
    problems: int = Field(ge=1)
    """Held-out problems of an evaluation."""
    thresholds: tuple[float, ...]
    """Thresholds of dynamic sampling at which the trained model is measured."""
    noise_batches: int = Field(default=6, ge=2)
    """Batches of the gradient's variance."""
    cpu_limit_s: float = 36.0
    """CPU seconds of rollouts and updates after which a run is ended and marked; with its measurements it stays
    below 45."""
    tasks: dict[str, TaskEntry]
    """Tasks by name: those of `configs/rl`."""
    starts: dict[str, StartEntry] = Field(default={"default": StartEntry()})
    """Kinds of SFT models by name."""
    methods: dict[str, MethodEntry]
    """Methods by name."""

    @model_validator(mode="after")
    def _names_exist(self) -> "Spec":
        if self.rate_seed in self.seeds:
            raise ValueError(f"rate_seed = {self.rate_seed}: it must be none of seeds")
        for name, method in self.methods.items():
            if method.start not in self.starts:
                raise ValueError(
                    f"methods.{name}.start = {method.start!r}: not among [starts]: "
                    f"{', '.join(self.starts)}"
                )
            if self.baseline_of(name) not in self.methods:
                raise ValueError(
                    f"baseline = {self.baseline_of(name)!r}: it is not among [methods]"
                )
            method_file(method.file or name)
        return self

    def baseline_of(self, method: str) -> str:
        """Return what a method is compared with."""
        return self.methods[method].baseline or self.baseline


@dataclass(frozen=True, slots=True)
class Unit:
    """The smallest thing that is done or not: an SFT model, a run that chooses a rate, or a compared run.

    Attributes:
        kind: which of them.
        task: its task.
        name: the start of an SFT model, the method of a run.
        seed: its seed.
        rate: its learning rate; None for the chosen one.
    """

    kind: Literal["start", "rate", "cell"]
    task: str
    name: str
    seed: int
    rate: float | None = None

    @property
    def file(self) -> str:
        """Name of its file below `--work`."""
        rate = "" if self.rate is None else f"-{self.rate:g}"
        return f"{self.kind}s/{self.task}-{self.name}-{self.seed}{rate}.json"


def read_spec(path: Path) -> Spec:
    """Read a spec.

    Raises:
        ValueError: for an unknown key, a value that is not accepted, or a method without a file.
    """
    return Spec.model_validate(tomllib.loads(path.read_text()))


def method_file(name: str) -> Path:
    """Return the file of a method.

    Raises:
        ValueError: there is none; names those there are.
    """
    path = CONFIGS / "methods" / f"{name}.toml"
    if not path.is_file():
        found = ", ".join(sorted(p.stem for p in path.parent.glob("*.toml")))
        raise ValueError(f"configs/methods has no {name}.toml; it has {found}")
    return path
