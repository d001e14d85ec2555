"""The fate of each key of a dLLM-RL configuration: the rows of `table.toml`, and the presets.

The first row of a key that fits a file decides (`rules.py`). The published sampler of each kind of model
is a preset here, which the file of its family names, and the keys of the file override it.
"""

import tomllib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from itertools import product
from typing import Any

from unmask.importing import values
from unmask.importing.rules import FATES, MODELS, NOTHING, Convert, Implied, Loss, Rule
from unmask.models.families import families

_TABLE = tomllib.loads(files("unmask.importing").joinpath("table.toml").read_text("utf-8"))
# The preset of each `model_base`.
_PRESETS = {base: name for f in families() for base, name in f.dllm_rl_presets.items()}
PRESET_OF = {base: _PRESETS[base] for base in MODELS}


def _rules(
    readers: str, keys: str, new: str, note: str = "", how: Any = None, *options: Mapping[str, Any]
) -> Iterator[Rule]:
    """Yield the rule of each key of a row of `table.toml`."""
    fate = FATES.get(new, "line")
    named = new.split() if fate == "line" else ()
    stated: dict[str, Any] = {"other": note if fate == "lost" else None, **dict(*options)}
    takes = stated.pop("takes", "")
    for old in keys.split():
        yield Rule(readers, old, tuple(named), fate, note, _conversion(how, **stated), takes)


def _conversion(how: Any, other: str | None, nearest: Any = NOTHING) -> Convert:
    """Return the conversion of a row: a function, or pairs and the loss that other values are."""
    if how is None and other is None:
        return values.same
    if isinstance(how, str):
        return getattr(values, how)
    known = {there: here[0] if here else NOTHING for there, *here in how or ()}
    loss = Loss(other or f"must be one of {', '.join(map(str, known))}", nearest)
    return lambda value, *_: known.get(value, loss)


_SAMPLED: list[list[Any]] = [
    [cell.format(**names) if isinstance(cell, str) else cell for cell in row]
    for names, row in product(_TABLE["sections"], _TABLE["sampled"])
]
RULES = tuple(rule for row in (*_TABLE["rows"], *_SAMPLED) for rule in _rules(*row))
_SAMPLER = "what its sampler does where nothing else is written"
IMPLIED = (
    *(Implied(*row) for row in _TABLE["implied"]),
    *(
        Implied(f"{readers} {base}", f"{new}.preset", name, _SAMPLER)
        for readers, new in _TABLE["presets"]
        for base, name in PRESET_OF.items()
    ),
)
