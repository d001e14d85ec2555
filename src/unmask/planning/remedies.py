"""What would make a job fit: the plan again with one setting changed, and with several where none is enough."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from unmask.configs.lora import LoRAConfig
from unmask.configs.rl import RLConfig
from unmask.planning.plan import Case, Plan

SMALLEST_BUDGET, FEWEST_SEQUENCES = 1024, 8
# Ever stronger values of one change: its words, and the case with it.
Ladder = Callable[[Case], Iterator[tuple[str, Case]]]


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
    devices, the last element is the best of the smallest combinations that do: full training before
    adapters, then the fewest devices, then the shortest step.
    """
    start = Remedy("", case, case.plan())
    if start.plan.memory.fits:
        return []
    alone = [found for ladder in LADDERS if (found := mildest(start, ladder))]
    if any(remedy.plan.memory.fits and remedy.case.count == case.count for remedy in alone):
        return alone
    for size in range(2, len(LADDERS) + 1):
        tried = (combined(start, ladders) for ladders in combinations(LADDERS, size))
        if fitting := [remedy for remedy in tried if remedy.plan.memory.fits]:
            return [*alone, min(fitting, key=_cost)]
    return alone


def combined(start: Remedy, ladders: Sequence[Ladder]) -> Remedy:
    """Return the changes of several ladders one after the other, until the job fits."""
    together = start
    for ladder in ladders:
        if not together.plan.memory.fits and (found := mildest(together, ladder)):
            together = replace(found, words=f"{together.words} {found.words}".strip())
    return together


def _cost(remedy: Remedy) -> tuple[bool, int, float]:
    return remedy.case.config.lora is not None, remedy.case.count, remedy.plan.seconds.step


def mildest(start: Remedy, ladder: Ladder) -> Remedy | None:
    """Return the first change of a ladder that makes the job fit, else the last one that lowers its peak."""
    best = start
    for words, case in ladder(start.case):
        plan = case.plan()
        if plan.memory.peak < best.plan.memory.peak:
            best = Remedy(words, case, plan)
        if plan.memory.fits:
            break
    return None if best is start else best


def with_key(case: Case, key: str, value: Any) -> Case:
    """Return a case whose config has one dotted key replaced; the value is not validated again."""
    return replace(case, config=_replaced(case.config, key, value))


def _replaced(section: Any, key: str, value: Any) -> Any:
    name, _, rest = key.partition(".")
    new = _replaced(getattr(section, name), rest, value) if rest else value
    return section.model_copy(update={name: new})


def _narrower(case: Case) -> Iterator[tuple[str, Case]]:
    if case.plan().job.width > 2:
        yield "model.dtype=bfloat16", with_key(case, "model.dtype", "bfloat16")


def _checkpointing(case: Case) -> Iterator[tuple[str, Case]]:
    key = "model.gradient_checkpointing"
    yield f"{key}=true", with_key(case, key, True)


def _smaller_packs(case: Case) -> Iterator[tuple[str, Case]]:
    key, size = "optimizer.token_budget", case.config.optimizer.token_budget // 2
    longest = case.lengths.prompt + case.lengths.response
    while size >= max(SMALLEST_BUDGET, longest):
        yield f"{key}={size}", with_key(case, key, size)
        size //= 2


def _fewer_sequences(case: Case) -> Iterator[tuple[str, Case]]:
    key, count = "engine.max_sequences", case.plan().memory.sequences // 2
    while isinstance(case.config, RLConfig) and count >= FEWEST_SEQUENCES:
        yield f"{key}={count}", with_key(case, key, count)
        count //= 2


def _offload(case: Case) -> Iterator[tuple[str, Case]]:
    yield "optimizer.offload=true", with_key(case, "optimizer.offload", True)


def _more_devices(case: Case) -> Iterator[tuple[str, Case]]:
    count, most = 2 * case.count, case.plan().job.trajectories
    while count <= most:
        yield f"--devices {count}", replace(case, count=count)
        count *= 2


def _adapters(case: Case) -> Iterator[tuple[str, Case]]:
    if case.config.lora is None:
        yield "lora.rank=16", with_key(case, "lora", LoRAConfig())


# In a combination the first ones go as far as they can, and the last one only as far as it must.
LADDERS: tuple[Ladder, ...] = (
    *(_narrower, _checkpointing, _offload, _adapters),
    *(_smaller_packs, _fewer_sequences, _more_devices),
)
