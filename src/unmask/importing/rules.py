"""The terms of the table of dLLM-RL's keys (`table.toml`), and the file that it is applied to.

A row names its *readers*: traits of a file (`"rl block critic"`: a run of RL, of a block model, with
a value model) whose published scripts read the key. The first row of a key whose readers are all
traits of the file decides; where none does, the published code does not look at the key.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["sft", "rl", "eval"]
# `line`: a key here has the value. `idle`: it changes no result. `otherwise`: done otherwise here, by
# design. `lost`: the run would be another one, so the import is refused.
Fate = Literal["line", "idle", "otherwise", "lost"]
FATES: Mapping[str, Fate] = {"idle": "idle", "otherwise": "otherwise", "lost": "lost"}

BLOCK_MODELS = ("sdar", "trado")
MODELS = (*BLOCK_MODELS, "llada", "mmada", "dream", "lladav")
# Stands for "no line is needed" among converted values.
NOTHING: Any = object()


@dataclass(frozen=True, slots=True)
class Loss:
    """Why a run would be another one, and the nearest value here, for a lossy import."""

    reason: str
    nearest: Any = NOTHING


@dataclass(frozen=True, slots=True)
class Source:
    """A file with dotted keys, the command its translation is for, and the number of its devices."""

    kind: Kind
    base: str
    keys: Mapping[str, Any]
    devices: int | None = None

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a dotted key."""
        return self.keys.get(name, default)

    @property
    def sampled(self) -> str:
        """The section of the sampling that is evaluated."""
        is_whole = self.kind == "eval" and not self._has("training")
        return "rollout" if is_whole else "evaluation"

    @property
    def traits(self) -> frozenset[str]:
        """The traits of the file on which the published scripts depend, as `readers` names them."""
        types = (self.get("dataset.data_type"), self.get("evaluation.data_type"))
        has_critic = self.get("model.value_base_model") is not None
        judge = self.get("model.process_reward_model")
        has_masks = self.get("training.method") in ("random_masking", "coupled")
        words = (
            (self.base in BLOCK_MODELS, "block", "full"),
            (self.base in (*BLOCK_MODELS, "dream"), "filters", "unfiltered"),
            (has_critic, "critic", "plain"),
            # With a value model they train along the trajectory, under any method of the file.
            (has_critic or not has_masks, "trace", "masks"),
            (self.base == "lladav" or "mmu" in types, "images", "text"),
            ("code" in types[:1], "code", "math"),
            (judge is not None, "judged", "unjudged"),
            (self._has("evaluation"), "measured", "unmeasured"),
            (self.kind == "eval", "measures", "trains"),
        )
        chosen = (first if holds else second for holds, first, second in words)
        return frozenset((self.kind, self.base, f"by_{self.sampled}", *chosen))

    def _has(self, section: str) -> bool:
        return any(name.startswith(f"{section}.") for name in self.keys)


# (value, file, section of the key there) -> the value here, a `Loss`, or `NOTHING`.
Convert = Callable[[Any, Source, str], Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of the table.

    Attributes:
        readers: traits a file must have, in one text.
        old: dotted key there; `section.*` stands for all keys below it that have no row.
        new: dotted keys here that get its value.
        fate: what becomes of it where `convert` returns a value.
        note: remark on the line, or the reason for having none.
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
