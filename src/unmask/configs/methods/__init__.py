"""A training method is a row of choices, `[views]`, `[advantage]` and `[loss]`, shared by SFT, DPO and RL.

Each choice is a folder here, and each file in it one section: `kind` names the section and so decides
which keys exist. The union of a choice is built by listing its folder, so a new method is a new file,
paired with the function of the same file name:

    configs/methods/views/NAME.py       diffusion/methods/NAME.py    trajectories to noisy views
    configs/methods/advantage/NAME.py   trainers/methods/NAME.py     rewards to advantages
    configs/methods/loss/NAME.py        objectives/methods/NAME.py   scored targets to a loss
"""

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Annotated, Any, Literal, Union, get_args

from pydantic import BeforeValidator, Field

from unmask.configs.section import Section

Choice = Literal["views", "advantage", "loss"]
# Where trajectories come from: SFT reads demonstrations, DPO pairs of answers, RL samples rollouts.
Source = Literal["demonstrations", "pairs", "rollouts"]
# The command that trains on each.
COMMANDS: dict[Source, str] = {"demonstrations": "sft", "pairs": "dpo", "rollouts": "rl"}


def sections(choice: Choice, source: Source) -> list[type[Section]]:
    """Return the sections of a choice that train on a source, in the order of their file names."""
    package = import_module(f"{__name__}.{choice}")
    files = [f"{package.__name__}.{found.name}" for found in iter_modules(package.__path__)]
    return [
        value
        for file in files
        for value in vars(import_module(file)).values()
        if isinstance(value, type)
        and issubclass(value, Section)
        and value.__module__ == file  # a file also imports the sections that it extends
        and source in getattr(value, "sources", ())
    ]


def choose(choice: Choice, source: Source, default: str) -> Any:
    """Return the type of a choice: a union of its sections that `kind` tells apart.

    Args:
        choice: name of the folder.
        source: what is trained on.
        default: `kind` of a table that does not name one.
    """
    found = sections(choice, source)

    def with_kind(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        whole: dict[str, Any] = {"kind": default, **value}
        refuse_source(choice, source, whole["kind"])
        return whole

    if len(found) == 1:
        return Annotated[found[0], BeforeValidator(with_kind)]
    union = Union[tuple(found)]  # noqa: UP007  # built from a list
    return Annotated[union, Field(discriminator="kind"), BeforeValidator(with_kind)]


def kinds(choice: Choice, source: Source) -> list[str]:
    """Return the values of `kind` of a choice that train on a source."""
    found = [section.model_fields["kind"].annotation for section in sections(choice, source)]
    return [kind for annotation in found for kind in get_args(annotation)]


def refuse_source(choice: Choice, source: Source, kind: Any) -> None:
    """Refuse a kind that trains on another source alone.

    Raises:
        ValueError: naming the command that trains it, and the kinds of this source.
    """
    own = kinds(choice, source)
    others: list[Source] = [other for other in COMMANDS if kind in kinds(choice, other)]
    if kind not in own and others:
        raise ValueError(
            f'kind = "{kind}" trains on {" or ".join(others)}, which `unmask {COMMANDS[others[0]]}` does; '
            f"`unmask {COMMANDS[source]}` trains on {source}: give {choice}.kind = "
            f"{' or '.join(own)}"
        )


def partner(section: Section, package: str) -> ModuleType:
    """Return the module of a package that has the file name of a section's own."""
    return import_module(f"{package}.{type(section).__module__.rpartition('.')[2]}")
