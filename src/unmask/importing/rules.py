"""The terms in which the table of dLLM-RL's keys is written, and the file it is applied to.

A row names its *readers*: traits of a file (`"rl block critic"`: a run of RL, of a block model, with
a value model) whose published scripts read the key. The first row of a key whose readers are all
traits of the file decides; where none does, the published code does not look at the key.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["sft", "rl", "eval"]
# `line`: a key here has the value. `idle`: it changes no result. `otherwise`: done otherwise here, by
# design. `lost`: the run would be another one, so the import is refused.
Fate = Literal["line", "idle", "otherwise", "lost"]

BLOCK_MODELS = ("sdar", "trado")
MODELS = (*BLOCK_MODELS, "llada", "mmada", "dream")
IMAGE_MODELS = ("lladav",)
METHODS = {"TraceRL": "trace", "random_masking": "random", "coupled": "coupled"}
# Stands for "no line is needed" among converted values.
NOTHING: Any = object()


@dataclass(frozen=True, slots=True)
class Loss:
    """Why a run would be another one, and the lines that come nearest, for a lossy import."""

    reason: str
    instead: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Source:
    """A file with dotted keys, the command its translation is for, and what it does not say."""

    kind: Kind
    base: str
    keys: Mapping[str, Any]
    devices: int | None = None

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a dotted key."""
        return self.keys.get(name, default)

    @property
    def sampled(self) -> str:
        """The section that says how responses are evaluated."""
        is_whole = self.kind == "eval" and not self._has("training")
        return "rollout" if is_whole else "evaluation"

    @property
    def traits(self) -> frozenset[str]:
        """What the published scripts depend on, as rows name it in `readers`."""
        types = (self.get("dataset.data_type"), self.get("evaluation.data_type"))
        has_critic = self.get("model.value_base_model") is not None
        judge = self.get("model.process_reward_model")
        method = METHODS.get(str(self.get("training.method")), "trace")
        words = (
            (self.base in BLOCK_MODELS, "block", "full"),
            (self.base in (*BLOCK_MODELS, "dream"), "filters", "unfiltered"),
            (has_critic, "critic", "plain"),
            # With a value model they train along the trajectory, whatever the file says.
            (method == "trace" or has_critic, "trace", "masks"),
            (self.base in IMAGE_MODELS or "mmu" in types, "images", "text"),
            ("code" in types[:1], "code", "math"),
            (judge is not None, "judged", "unjudged"),
            (self._has("evaluation"), "measured", "unmeasured"),
            (self.kind == "eval", "measures", "trains"),
        )
        chosen = (first if holds else second for holds, first, second in words)
        return frozenset((self.kind, self.base, f"by_{self.sampled}", *chosen))

    def _has(self, section: str) -> bool:
        return any(name.startswith(f"{section}.") for name in self.keys)


Convert = Callable[[Any, Source], Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of the table.

    Attributes:
        readers: traits a file must have, in one text.
        old: dotted key there; `section.*` stands for all keys below it that have no row.
        new: dotted keys here that get its value.
        fate: what becomes of it where `convert` returns a value.
        note: remark beside the line, or the reason why there is none.
        convert: its value to ours, a `Loss`, or `NOTHING`.
        takes: "null" or "list" where that is a value like others.
    """

    readers: str
    old: str
    new: tuple[str, ...]
    fate: Fate
    note: str
    convert: Convert
    takes: str = ""


@dataclass(frozen=True, slots=True)
class Implied:
    """A line for what the published scripts of files with these traits do without a key."""

    readers: str
    new: str
    value: Any
    note: str


def same(value: Any, _: Source) -> Any:
    """Return the value as it is."""
    return value


def one_of(known: Mapping[Any, Any], other: Loss | None = None) -> Convert:
    """Return the conversion by a table, and what any other value comes to."""
    loss = other or Loss(f"must be one of {', '.join(map(str, known))}")
    return lambda value, _: known.get(value, loss)


def line(
    readers: str, old: str, new: str, note: str = "", convert: Convert = same, takes: str = ""
) -> Rule:
    """Return the row of a key whose value goes into the keys `new` names."""
    return Rule(readers, old, tuple(new.split()), "line", note, convert, takes)


def idle(readers: str, note: str, *keys: str) -> tuple[Rule, ...]:
    """Return the rows of keys that change no result."""
    return tuple(Rule(readers, old, (), "idle", note, same) for old in keys)


def otherwise(readers: str, note: str, *keys: str) -> tuple[Rule, ...]:
    """Return the rows of keys that are done otherwise here, by design."""
    return tuple(Rule(readers, old, (), "otherwise", note, same) for old in keys)


def lost(readers: str, note: str, *keys: str, unless: Any = NOTHING) -> tuple[Rule, ...]:
    """Return the rows of keys that nothing here stands for, unless they have one value."""
    return tuple(
        judged(readers, old, note, lambda value, _: NOTHING if value == unless else Loss(note))
        for old in keys
    )


def judged(readers: str, old: str, note: str, convert: Convert, takes: str = "") -> Rule:
    """Return the row of a key without a line, which `convert` finds lost or harmless."""
    return Rule(readers, old, (), "lost", note, convert, takes)
