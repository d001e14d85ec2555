"""What would make a job fit: the plan again with one setting changed, and with several where none is enough."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from unmask.configs.lora import LoRAConfig
from unmask.configs.optimizer import AdamW8bitConfig
from unmask.planning.plan import Case, Plan

SMALLEST_BUDGET, FEWEST_SEQUENCES, RANK = 1024, 8, 16
# In a combination the first ones go as far as they can, and the last one only as far as it must.
KEYS = (
    *("model.dtype", "model.gradient_checkpointing", "optimizer.offload", "lora.rank"),
    *("optimizer.token_budget", "engine.max_sequences", "--devices"),
)


@dataclass(frozen=True, slots=True)
class Remedy:
    """A change, and the plan with it.

    Attributes:
        words: the change, as the command line takes it.
        case: what is planned.
        plan: its cost.
    """

    words: str
    case: Case
    plan: Plan


def remedies(case: Case) -> list[Remedy]:
    """Return the changes that lower the peak of a job that does not fit; none for one that fits.

    Each stands alone, at the mildest value that fits, or else the last one tried. If none of them fits on these
    devices, the last element is the best combination that does: full training before adapters, then the fewest
    devices, then the fewest changes, then the shortest step.
    """
    start = Remedy("", case, case.plan())
    if start.plan.memory.fits:
        return []
    alone = [found for key in KEYS if (found := mildest(start, key))]
    if any(remedy.plan.memory.fits and remedy.case.count == case.count for remedy in alone):
        return alone
    sizes = range(2, len(KEYS) + 1)
    tried = [combined(start, keys) for size in sizes for keys in combinations(KEYS, size)]
    fitting = [remedy for remedy in tried if remedy.plan.memory.fits]
    return [*alone, min(fitting, key=_cost)] if fitting else alone


def combined(start: Remedy, keys: Iterable[str]) -> Remedy:
    """Return the changes of several keys one after the other, until the job fits."""
    together = start
    for key in keys:
        if not together.plan.memory.fits and (found := mildest(together, key)):
            together = replace(found, words=f"{together.words} {found.words}".strip())
    return together


def mildest(start: Remedy, key: str) -> Remedy | None:
    """Return the first value of a key that makes the job fit, else the last one that lowers its peak."""
    best = start
    for value in values(start, key):
        case = changed(start.case, key, value)
        plan = case.plan()
        text = str(value).lower()  # as TOML has it
        if plan.memory.peak < best.plan.memory.peak:
            best = Remedy(f"{key} {text}" if key.startswith("--") else f"{key}={text}", case, plan)
        if plan.memory.fits:
            break
    return None if best is start else best


def values(start: Remedy, key: str) -> Sequence[Any]:
    """Return the values of a key that are tried, from mild to strong."""
    config, job = start.case.config, start.plan.job
    longest = job.lengths.prompt + job.lengths.response
    match key:
        case "model.dtype":
            return ["bfloat16"] if job.width > 2 else []
        case "lora.rank":
            return [RANK] if config.lora is None else []
        case "optimizer.token_budget":
            return list(_halves(job.token_budget, max(SMALLEST_BUDGET, longest)))
        case "engine.max_sequences":
            return list(_halves(start.plan.memory.sequences, FEWEST_SEQUENCES))
        case "--devices":
            return [
                2**n * job.devices for n in range(1, 99) if 2**n * job.devices <= job.trajectories
            ]
        case "optimizer.offload" if isinstance(config.optimizer, AdamW8bitConfig):
            return []  # it has no step for host memory
        case _:
            return [True]


def changed(case: Case, key: str, value: Any) -> Case:
    """Return a case with one key changed; the config is not validated again."""
    if key == "--devices":
        return replace(case, count=value)
    name, _, field = key.partition(".")
    section = getattr(case.config, name)
    new = LoRAConfig(rank=value) if name == "lora" else section.model_copy(update={field: value})
    return replace(case, config=case.config.model_copy(update={name: new}))


def _halves(count: int, fewest: int) -> Iterator[int]:
    while (count := count // 2) >= fewest:
        yield count


def _cost(remedy: Remedy) -> tuple[bool, int, int, float]:
    has_adapters = remedy.case.config.lora is not None
    return has_adapters, remedy.case.count, remedy.words.count("="), remedy.plan.seconds.step
