"""Load a configuration from TOML files and `key=value` words, with the origin of each value.

*Defaults < files, left to right < `key=value`.* All sources are first flattened to dotted keys, so
that a later source replaces exactly the keys it names; a table is never replaced as a whole. The word
`none` sets an optional key to None, because TOML has no null; any other table it empties, so that the words
`views=none views.kind=trace` leave no key of another kind.

An error is one line that names the key, the value, its origin and the accepted values. Unknown keys are
errors.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, time
from difflib import SequenceMatcher, get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from unmask.configs.keys import REQUIRED, Key, keys_of, to_toml
from unmask.configs.other_names import GONE, TABLES, ours
from unmask.configs.shipped import name_of, shipped_files
from unmask.json_files import check_nesting, too_deep

C = TypeVar("C", bound=BaseModel)
Assigned = dict[str, tuple[Any, str]]  # dotted key -> (value, where it was written)

# The index of a table in a list, within a key.
INDEX = re.compile(r"\[\d+\]")
DEFAULT = "default"
COMMAND_LINE = "command line"


def load_config(
    cls: type[C], files: Sequence[Path], overrides: Sequence[str]
) -> tuple[C, dict[str, str]]:
    """Build a configuration from its defaults, files and overrides.

    Args:
        cls: the configuration, such as `RLConfig`.
        files: TOML files, or names of shipped ones such as `rl/chain_sum`; later ones win.
        overrides: `key=value` words with dotted keys; a value that is not TOML is a plain string.

    Returns:
        The configuration, and the origin of each dotted key: `default`, the path of a file, `shipped` with
        a name, or `command line`.

    Raises:
        ValueError: a file is missing or not TOML, a key is unknown or missing, or a value is not
            accepted; one line per error.
    """
    sources = [_read(file) for file in files]
    sources += [(COMMAND_LINE, _parse(override)) for override in overrides]
    return config_from(cls, sources)


def config_from(
    cls: type[C], sources: Sequence[tuple[str, Mapping[str, Any]]]
) -> tuple[C, dict[str, str]]:
    """Build a configuration from its defaults and tables, each with its origin.

    Raises:
        ValueError: as `load_config`.
    """
    listed = keys_of(cls)
    optional = [key for key in listed if key.is_optional]
    assigned: Assigned = {}
    for source, table in sources:
        for name, value in flatten(table):
            is_none = value == "none" and any(key.names(name) for key in optional)
            if (
                value == "none"
                and not is_none
                and any(k.name.startswith(f"{name}.") for k in listed)
            ):
                assigned = {k: v for k, v in assigned.items() if not k.startswith(f"{name}.")}
                continue
            _assign(assigned, name, None if is_none else value, source)
    values = _nest(assigned)
    check_nesting(values, "the configuration")
    try:
        config = cls.model_validate(values)
    except ValidationError as error:
        lines = [_explain(details, values, assigned, listed) for details in error.errors()]
        # pydantic reports a value that no type of a union accepts once per type.
        raise ValueError("\n".join(dict.fromkeys(lines))) from None
    return config, {name: _origin(name, assigned) for name, _ in flatten(dump(config))}


def dump(config: BaseModel) -> dict[str, Any]:
    """Return the resolved configuration as plain JSON values."""
    return config.model_dump(mode="json")


def flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys and values of nested tables; an empty table is a value."""
    for name, value in table.items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{prefix}{name}.")  # pyright: ignore[reportUnknownArgumentType]
        else:
            yield prefix + name, value


def _read(file: Path) -> tuple[str, dict[str, Any]]:
    """Return the origin and the table of a file, or of the shipped one that a word names where there is no file."""
    origin = str(file)
    if not file.is_file():
        shipped = shipped_files().get(name := name_of(file))
        if shipped is None:
            raise ValueError(f"{file}: no such file; {_nearest_files(file)}")
        origin, file = f"shipped {name}", shipped
    if file.suffix in (".yaml", ".yml", ".json"):
        raise ValueError(
            f"{file}: configurations are TOML; `unmask config import {file} > mine.toml` translates those "
            "of dLLM-RL"
        )
    try:
        return origin, _parse_toml(file.read_text(encoding="utf-8-sig"), origin)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{origin}: not valid TOML: {error}") from None


def _parse_toml(text: str, place: str) -> dict[str, Any]:
    """Parse TOML; raise `TOMLDecodeError` only for text that is not TOML."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise too_deep(place) from None
    except ValueError as error:  # an integer of thousands of digits
        raise ValueError(f"{place}: a number of too many digits ({error})") from None
    check_nesting(table, place)
    return table


def _nearest_files(file: Path) -> str:
    folder = file if file.is_dir() else file.parent
    if not folder.is_dir():
        shipped = get_close_matches(name_of(file), shipped_files())
        near = (
            f"shipped are {', '.join(shipped)}"
            if shipped
            else "`unmask config list` names shipped ones"
        )
        return f"there is no directory {folder}; {near}"
    stems = sorted(entry.stem for entry in folder.glob("*.toml"))
    nearest = get_close_matches(file.stem, stems) or stems[:5]
    names = ", ".join(f"{stem}.toml" for stem in nearest)
    return f"in {folder} there is {names or 'no TOML file'}"


def _parse(override: str) -> dict[str, Any]:
    name, equals, text = (part.strip() for part in override.partition("="))
    if not name or not equals:
        raise ValueError(f"{override!r}: an override is written key=value")
    try:
        table = _parse_toml(f"value = {text}", name)
    except tomllib.TOMLDecodeError:
        return {name: text}
    # A line break must not add keys. No key takes a date, but `2026-01-31` may be the name of a run.
    is_plain = set(table) == {"value"} and not isinstance(table["value"], date | time)
    return {name: table["value"] if is_plain else text}


def _assign(assigned: Assigned, name: str, value: Any, source: str) -> None:
    """Set one dotted key; a value replaces a table of the same name, and a table a value."""
    inside = [other for other in assigned if other.startswith(f"{name}.")]
    if value == {} and inside:
        return
    above = [other for other in assigned if name.startswith(f"{other}.")]
    for other in inside + above:
        del assigned[other]
    assigned[name] = (value, source)


def _nest(assigned: Assigned) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, (value, _) in assigned.items():
        *tables, last = name.split(".")
        node = tree
        for table in tables:
            node = node.setdefault(table, {})
        node[last] = value
    return tree


def _origin(name: str, assigned: Assigned) -> str:
    """Return the origin of a key, or of the first key of a table; a list has one origin."""
    name = name.partition("[")[0]
    written = (s for key, (_, s) in assigned.items() if f"{key}.".startswith(f"{name}."))
    return next(written, DEFAULT)


def _explain(
    details: ErrorDetails, values: dict[str, Any], assigned: Assigned, listed: Sequence[Key]
) -> str:
    """Return an error of pydantic as one line."""
    problem = details["type"]
    name, value = _locate(details["loc"], values, problem == "missing")
    if problem.startswith("union_tag"):
        name, value = f"{name}.kind", value.get("kind")
    origin = _origin(name, assigned)
    name_in_lists = INDEX.sub("[]", name)
    if problem == "extra_forbidden":
        table = name.partition(".")[0]
        cure = (
            "" if origin == COMMAND_LINE or "[" in name else f"; {table}=none empties {table} first"
        )
        is_other = any(key.name == name_in_lists for key in listed)
        return f"unknown key {name} ({origin}); {_way_out(name_in_lists, listed)}{cure * is_other}"
    if problem in ("missing", "union_tag_not_found") and (origin == DEFAULT or "[" in name):
        return _missing(name, name_in_lists, listed)
    if problem == "value_error":
        where = f"{name} ({origin})" if name else "configuration"
        return f"{where}: {details.get('ctx', {})['error']}"
    types = [key.type for key in listed if key.names(name_in_lists)]
    inside = (k.name for k in listed if k.names(f"{name_in_lists}.{k.name.rpartition('.')[2]}"))
    # A table that was given instead of a value, or of an item of a list, is not a key itself.
    whole = (k.type for k in listed if name.startswith((f"{k.name}.", f"{k.name}[")))
    tables = [f"a table with keys such as {key}" for key in inside][:1] or list(whole)
    allowed = " or ".join(dict.fromkeys(types or tables))
    return f"{name} = {to_toml(value)} ({origin}): must be {allowed}"


def _locate(loc: Sequence[int | str], values: Any, is_missing: bool) -> tuple[str, Any]:
    """Return the dotted key of a pydantic location, and its value; the last part of a missing key is absent.

    A location also holds tags of unions, which are not part of the key, and indices, which are part of it
    only in a list of tables.
    """
    names: list[str] = []
    for depth, part in enumerate(loc, start=1):
        if isinstance(part, int):
            item = next(iter(values[part : part + 1]), None)
            if not isinstance(item, dict):
                break
            names[-1] += f"[{part}]"
            values = item
        elif not isinstance(values, dict):
            break
        elif part in values:
            names.append(part)
            values = values[part]
        elif depth == len(loc) and is_missing:
            names.append(part)
            values = None
    return ".".join(names), values


def _missing(name: str, name_in_lists: str, listed: Sequence[Key]) -> str:
    key = next(
        key
        for key in listed
        if key.default == REQUIRED and f"{key.name}.".startswith(f"{name_in_lists}.")
    )
    found = name + key.name.removeprefix(name_in_lists)
    way_out = "Set it in that table" if "[" in name else f"Give {found}=... or set it in a file"
    return f"missing key {found} ({key.type}): {key.sentence} {way_out}"


def _way_out(name: str, listed: Sequence[Key]) -> str:
    kinds = [key.when for key in listed if key.name == name]
    if kinds:
        return f"it exists only when {kinds[0]}"
    if name in GONE:
        return GONE[name]
    if name in TABLES:
        return TABLES[name]
    names = {key.name for key in listed}
    if meant := ours(name, names):
        return f"here that is {' or '.join(meant)}"
    names |= {name.rpartition(".")[0] for name in names if "." in name}
    if nearest := _nearest(name, names):
        return f"did you mean {' or '.join(nearest)}?"
    return "`unmask config rl --keys` (or sft, eval) lists those that exist"


def _nearest(name: str, names: set[str]) -> list[str]:
    """Return up to three names whose last part is similar: the section is often forgotten."""

    def likeness(other: str) -> tuple[float, float]:
        last = SequenceMatcher(None, name.split(".")[-1], other.split(".")[-1]).ratio()
        return last, SequenceMatcher(None, name, other).ratio()

    ranked = sorted(sorted(names), key=likeness, reverse=True)
    return [other for other in ranked[:3] if likeness(other)[0] >= 0.65]
