"""One record of a file of problems, read field by field.

Files of problems are foreign: a field may be missing, or hold something else than its authors
promised. A record knows the place it came from, so that every complaint names file and line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Fields that published sets name their problems by.
IDS = ("task_id", "question_id", "problem_id", "unique_id", "id")


class UnfitProblemError(ValueError):
    """A problem that no grader can judge: it is left out by name, and the others are kept."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record and where it stands.

    Attributes:
        place: config key, file and line, for messages.
        values: its fields.
    """

    place: str
    values: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its name in the data set, or else the place where it stands."""
        return next((f"{key} {self.values[key]}" for key in IDS if key in self.values), self.place)

    def text(self, name: str) -> str:
        """Return a field that holds a text that is not blank, or a number, as text.

        Raises:
            ValueError: it holds anything else.
        """
        value = self.values.get(name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number or (isinstance(value, str) and value.strip()):
            return str(value)
        raise self.error(name, "must be a text or a number")

    def unfit(self, name: str, wanted: str) -> UnfitProblemError:
        """Return the complaint about a field that no grader can use; arguments as `error`."""
        return UnfitProblemError(str(self.error(name, wanted)))

    def error(self, name: str, wanted: str) -> ValueError:
        """Return the complaint about a field: what it must be, what it is, what else is there."""
        present = ", ".join(self.values) or "nothing"
        shown = repr(self.values.get(name))
        if len(shown) > 200:
            shown = f"{shown[:200]} ..."
        return ValueError(
            f"{self.place}: {name!r} {wanted}, found {shown} (the record has: {present})"
        )


def record_from_json(place: str, value: Any) -> Record:
    """Make a record of a parsed JSON value.

    Raises:
        ValueError: the value is no object.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{place}: expected an object, found {type(value).__name__}")
    return Record(place, value)  # pyright: ignore[reportUnknownArgumentType]
