"""Checkpoint families: every module of this folder that defines `FAMILY`, under its file's name.

Names are listed without importing the modules. A family from outside the package goes by
`module:OBJECT`, an importable module and the `Family` in it; a config.json never names one.
"""

import pkgutil
from functools import cache
from importlib import import_module

from unmask.configs.import_path import import_object
from unmask.models.families.family import Config, Family

# Modules of this folder that several families read; all others are families.
SHARED = frozenset({"autoregressive", "config_file", "family", "json_keys", "qwen"})


def family_names() -> tuple[str, ...]:
    """Return the names of the families of this package, sorted."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in modules if name not in SHARED))


def families() -> tuple[Family, ...]:
    """Return the families of this package, sorted by name."""
    return tuple(family_named(name) for name in family_names())


@cache
def family_named(name: str) -> Family:
    """Return a family by its name, or by `module:OBJECT` if it stands outside this package.

    Raises:
        ValueError: naming the families there are, or what is wrong with the module or object.
    """
    if imported_name(name):
        return _imported(name)
    if name not in family_names():
        raise ValueError(
            f"family = {name!r}: must be one of {', '.join(family_names())}, or module:OBJECT"
        )
    return import_module(f"{__name__}.{name}").FAMILY


def imported_name(name: str) -> str | None:
    """Return the name if it is `module:OBJECT`: such a family must be named again on loading."""
    return name if ":" in name else None


def _imported(path: str) -> Family:
    family = import_object(path, f"family = {path!r}")
    if not isinstance(family, Family):
        raise ValueError(f"family = {path!r}: must be a Family, found {type(family).__name__}")
    if not family.name == family.tiny.family == path:
        raise ValueError(
            f"family = {path!r}: the name of the family and of its specs must be {path!r}, "
            f"found {family.name!r} and {family.tiny.family!r}"
        )
    return family


def family_of(config: Config, name: str | None = None) -> Family:
    """Return the family of a `config.json`: by its first architecture, else by its `model_type`.

    Two families may share an architecture; the `model_type` then decides, and after it which of the
    two names the architecture first. Two may share a `model_type`; the architecture then decides.

    Args:
        config: the content of the file.
        name: the only family to consider, as `family_named` takes it; all of this package by default.

    Raises:
        ValueError: naming the architecture and those supported.
    """
    candidates = families() if name is None else (family_named(name),)
    model_type = config.get("model_type")
    stated = (config.get("architectures") or [None])[0]

    def rank(family: Family) -> tuple[bool, bool]:
        return family.model_type == model_type, family.architectures[0] == stated

    fitting = [family for family in candidates if stated in (*family.architectures, None)]
    best = max(fitting, key=rank, default=None)
    if best is not None and (stated or best.model_type == model_type):
        return best
    supported = ", ".join(family.architectures[0] for family in candidates)
    raise ValueError(
        f"config.json: no family has the architecture {stated or model_type!r}; supported: "
        f"{supported}; name one from outside the package by model.family = module:OBJECT, or make a "
        "diffusion model of a Qwen2, Qwen3 or Llama checkpoint by `unmask convert`"
    )
