"""One record of a file of problems, read field by field.

Files of problems come from elsewhere: a field may be missing or of another type than documented. A
record holds its place, so that every error names file and line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unmask.data.record_images import NO_FILES, RecordImages
from unmask.types import Image

# Fields that hold a problem's name in public data sets.
IDS = ("task_id", "question_id", "problem_id", "unique_id", "id")


class UnfitProblemError(ValueError):
    """A problem that no grader can grade: it is left out by name, and the others are kept."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record and its place.

    Attributes:
        place: config key, file and line, for messages.
        values: its fields.
        images: opens its images.
    """

    place: str
    values: Mapping[str, Any]
    images: RecordImages = NO_FILES

    @property
    def name(self) -> str:
        """Its name in the data set, else its place."""
        return next((f"{key} {self.values[key]}" for key in IDS if key in self.values), self.place)

    def text(self, name: str) -> str:
        """Return a field as a string; it must hold a number or a string that is not blank.

        Raises:
            ValueError: it holds anything else.
        """
        value = self.values.get(name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number or (isinstance(value, str) and value.strip()):
            return str(value)
        raise self.error(name, "must be a text or a number")

    def image(self, name: str) -> Image:
        """Return the only image of a field; errors as `images_of`."""
        found = self.images_of(name)
        if len(found) != 1:
            raise self.error(name, "must hold one image")
        return found[0]

    def images_of(self, name: str) -> list[Image]:
        """Return the images of a field that holds one, or a list of them.

        Raises:
            ValueError: it holds none, or one that cannot be read.
        """
        try:
            found = self.images.of_column(self.values, (name,))
        except ValueError as error:
            raise ValueError(f"{self.place}: {error}") from error
        if not found:
            raise self.error(name, "must hold an image")
        return found

    def unfit(self, name: str, wanted: str) -> UnfitProblemError:
        """Return the error for a field that no grader can use; arguments as `error`."""
        return UnfitProblemError(str(self.error(name, wanted)))

    def error(self, name: str, wanted: str) -> ValueError:
        """Return the error for a field: its requirement, its value and the fields there are."""
        present = ", ".join(self.values) or "nothing"
        shown = repr(self.values.get(name))
        shown = f"{shown[:200]} ..." if len(shown) > 200 else shown
        return ValueError(
            f"{self.place}: {name!r} {wanted}, found {shown} (the record has: {present})"
        )


def record_from_json(place: str, value: Any, images: RecordImages = NO_FILES) -> Record:
    """Make a record of a parsed JSON value, and of what opens its images.

    Raises:
        ValueError: the value is not an object.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{place}: expected an object, found {type(value).__name__}")
    return Record(place, value, images)  # pyright: ignore[reportUnknownArgumentType]
