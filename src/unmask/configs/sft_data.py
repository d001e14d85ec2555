"""`[data]` of `unmask sft`: which records are trained, and how they become demonstrations."""

import importlib.util
import pkgutil
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from unmask.configs.section import Section

# Fields of all layouts (`data/layouts`).
FieldName = Literal[
    "messages",
    "conversations",
    "prompt",
    "completion",
    "response",
    "instruction",
    "input",
    "output",
    "system",
    "text",
    "step_map",
    "prompt_ids",
    "response_ids",
]


def layout_names() -> tuple[str, ...]:
    """Return the names of the layouts: the files of `unmask.data.layouts`, which are not imported."""
    folder = importlib.util.find_spec("unmask.data.layouts")
    assert folder is not None
    modules = pkgutil.iter_modules(folder.submodule_search_locations)
    return tuple(sorted(module.name for module in modules))


class RecordsConfig(Section):
    """A set of records, and how each becomes a demonstration."""

    path: Path | None = None
    """File of records: JSON, JSON Lines (also `.gz`) or Parquet."""
    hub: str | None = None
    """Data set on the hub, loaded by the `datasets` package, in place of `path`."""
    subset: str | None = None
    """Name of the hub set's configuration, where it has several."""
    split: str = "train"
    """Split of the hub set."""
    layout: str | None = None
    """Layout of the records (docs/data.md lists them); follows from the keys of the first record when not
    given."""
    fields: dict[FieldName, str] = {}
    """Names of fields here and in the file: `{prompt = "question", response = "answer"}`; `a.b` is the
    field `b` of a table `a`."""
    rendered: bool = False
    """The texts are final: no chat template and no end-of-text token is added to them."""
    turns: Literal["all", "last"] = "all"
    """Which turns of the assistant are trained."""

    @field_validator("layout")
    @classmethod
    def _exists(cls, layout: str | None) -> str | None:
        if layout is not None and layout not in layout_names():
            raise ValueError(
                f"there is no layout {layout!r}; there are {', '.join(layout_names())}"
            )
        return layout

    @model_validator(mode="after")
    def _one_place(self) -> "RecordsConfig":
        if self.path is not None and self.hub is not None:
            raise ValueError(f"hub = {self.hub}: the records come from path = {self.path}")
        return self


class SFTDataConfig(RecordsConfig):
    """Where demonstrations come from: `path`, `hub`, or the task's own right answers."""

    batch_size: int = Field(default=32, ge=1, le=2**20)
    """Demonstrations per optimizer step."""
    canvas_tokens: Annotated[int, Field(ge=1)] | Literal["longest"] | None = None
    """Under full attention, fewest positions of a canvas: positions right of a shorter response are hidden
    and never scored, as when a sampler is given so many `max_tokens`. `longest` (published) is the
    longest response of the data. Without it a canvas ends where its response does, which shows the
    model the length of the answer."""
