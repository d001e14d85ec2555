"""The families this package reads. Adding one is a file beside this one, and its place in a line."""

from unmask.models.families.family import Config, Family
from unmask.models.families.sdar import SDAR

FAMILIES = (SDAR,)


def family_of(config: Config) -> Family:
    """Return the family of a `config.json`: by its first architecture, else by its `model_type`.

    Raises:
        ValueError: naming what the config says and the architectures supported.
    """
    stated = (config.get("architectures") or [config.get("model_type")])[0]
    for family in FAMILIES:
        if stated in (*family.architectures, family.model_type):
            return family
    supported = ", ".join(family.architectures[0] for family in FAMILIES)
    raise ValueError(f"config.json: {stated!r} is no family known here; supported: {supported}")


def family_named(name: str) -> Family:
    """Return the family a `ModelSpec` names."""
    return next(family for family in FAMILIES if family.name == name)
