"""`[data]` of `unmask sft`: which records are trained, and how they become demonstrations."""

import importlib.util
import pkgutil
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from unmask.configs.section import Section

DEMONSTRATIONS, PAIRS = "unmask.data.layouts", "unmask.data.pair_layouts"
# Packages of layouts, and the commands that train on their records.
TRAINERS = {DEMONSTRATIONS: "`unmask sft`", PAIRS: "`unmask dpo` or `unmask reward-model`"}
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
    "image",
    "images",
    "image_path",
    "image_abs_path",
]


def layout_names(package: str = DEMONSTRATIONS) -> tuple[str, ...]:
    """Return the names of the layouts: the files of a package, which are not imported."""
    folder = importlib.util.find_spec(package)
    assert folder is not None
    modules = pkgutil.iter_modules(folder.submodule_search_locations)
    return tuple(sorted(module.name for module in modules))


class RecordsSection(Section):
    """Where records are, and what their texts are."""

    layouts: ClassVar[str] = DEMONSTRATIONS
    """Package of the layouts that the records may have."""
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
    image_root: Path | None = None
    """Directory that paths of images are below; that of the file of records when not given."""
    rendered: bool = False
    """The texts are final: no chat template and no end-of-text token is added to them."""

    @field_validator("layout")
    @classmethod
    def _exists(cls, layout: str | None) -> str | None:
        if layout is None or layout in (names := layout_names(cls.layouts)):
            return layout
        for package, command in TRAINERS.items():
            if layout in layout_names(package):
                raise ValueError(
                    f"layout {layout!r} holds what {command} trains: run that, or give another"
                )
        raise ValueError(f"there is no layout {layout!r}; there are {', '.join(names)}")

    @model_validator(mode="after")
    def _one_place(self) -> "RecordsSection":
        if self.path is not None and self.hub is not None:
            raise ValueError(f"hub = {self.hub}: the records come from path = {self.path}")
        return self


class RecordsConfig(RecordsSection):
    """A set of records, and how each becomes a demonstration."""

    streaming: bool = False
    """Read the hub set while training, without a copy on the disk; it is then shuffled within windows of 1024
    records."""
    fields: dict[FieldName, str] = {}
    """Names of fields here and in the file: `{prompt = "question", response = "answer"}`; `a.b` is the
    field `b` of a table `a`."""
    turns: Literal["all", "last"] = "all"
    """Which turns of the assistant are trained."""

    @model_validator(mode="after")
    def _streams_from_the_hub(self) -> "RecordsConfig":
        if self.streaming and self.hub is None:
            raise ValueError("streaming = true: is for a data set on the hub")
        return self


class DataSource(RecordsConfig):
    """One of several sets of records."""

    weight: float | None = Field(default=None, gt=0)
    """Share of the draws, relative to the other sources; all sources have one, or none has. Without it an
    epoch has every demonstration of every source once."""

    @model_validator(mode="after")
    def _has_place(self) -> "DataSource":
        if self.path is None and self.hub is None:
            raise ValueError("a source has a path or a hub")
        return self


class SFTDataConfig(RecordsConfig):
    """Where demonstrations come from: `path`, `hub`, several `sources`, or the task's own right answers."""

    sources: tuple[DataSource, ...] = ()
    """Several sets of records (`[[data.sources]]`), each with the keys of one, in place of `path`."""
    examples: int | None = Field(default=None, ge=1)
    """Most demonstrations of the task that are trained, the first ones of its training problems; all when
    not given."""
    validation: Annotated[float, Field(gt=0, lt=1)] | Path | None = None
    """Demonstrations that are measured and not trained: a share of each source, chosen by its prompts, or a
    file with the keys of `[data]`."""
    too_long: Literal["error", "drop", "truncate"] = "error"
    """A demonstration of more tokens than the model or `max_tokens` allows: refuse it, leave it out, or cut
    its response, which then has no end."""
    max_tokens: int | None = Field(default=None, ge=2)
    """Most tokens of a demonstration; the model's positions when not given."""
    batch_size: int = Field(default=32, ge=1, le=2**20)
    """Demonstrations per optimizer step."""
    canvas_tokens: Annotated[int, Field(ge=1)] | Literal["longest"] | None = None
    """Under full attention, fewest positions of a canvas: positions right of a shorter response are hidden
    and never scored, as when a sampler is given so many `max_tokens`. `longest` (published) is the
    longest response of the data. Without it a canvas ends where its response does, which shows the
    model the length of the answer."""

    @property
    def named_sources(self) -> list[tuple[str, RecordsConfig]]:
        """The sets of records that are trained, each with its key; empty where the task has them."""
        if self.path is not None or self.hub is not None:
            return [("data", self)]
        return [(f"data.sources[{n}]", source) for n, source in enumerate(self.sources, start=1)]

    @property
    def streams(self) -> bool:
        """Whether a source is a stream, of which neither the number nor the lengths are known."""
        return any(source.streaming for _, source in self.named_sources)

    @property
    def weights(self) -> tuple[float, ...]:
        """The shares of the sources; empty where they have none."""
        return tuple(source.weight for source in self.sources if source.weight is not None)

    @property
    def validation_file(self) -> RecordsConfig | None:
        """The file of demonstrations that are only measured, if there is one."""
        if not isinstance(self.validation, Path):
            return None
        own = {
            name: getattr(self, name)
            for name in ("layout", "fields", "image_root", "rendered", "turns")
        }
        return RecordsConfig(path=self.validation, **own)

    @model_validator(mode="after")
    def _consistent(self) -> "SFTDataConfig":
        if self.sources and (self.path is not None or self.hub is not None):
            raise ValueError("sources: give path, hub or sources, only one of them")
        if 0 < len(self.weights) < len(self.sources):
            raise ValueError("sources: give every source a weight, or none")
        if self.examples is not None and self.named_sources:
            raise ValueError(
                f"examples = {self.examples}: counts the task's demonstrations, but these come from path, "
                "hub or sources: give a file of so many"
            )
        if self.validation is not None and not self.named_sources:
            raise ValueError(
                f"validation = {self.validation}: is held out of path, hub or sources, of which none is "
                "given"
            )
        if self.streams and isinstance(self.validation, float):
            raise ValueError(
                f"validation = {self.validation}: no share of a stream can be held out: name a file"
            )
        if self.streams and self.canvas_tokens == "longest":
            raise ValueError(
                'canvas_tokens = "longest": a stream has no longest response: give a number'
            )
        if self.streams and len(self.sources) > 1 and not self.weights:
            raise ValueError(
                "sources: a stream is mixed with others by weights: give every source one"
            )
        return self
