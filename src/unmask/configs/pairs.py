"""`[data]` of `unmask dpo` and `unmask reward-model`: which preference pairs are trained, and how they are read."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from unmask.configs.sft_data import PAIRS, RecordsSection

# Fields of all layouts (`data/pair_layouts`).
FieldName = Literal[
    "prompt",
    "chosen",
    "rejected",
    "responses",
    "rewards",
    "prompt_ids",
    "chosen_ids",
    "rejected_ids",
    "chosen_step_map",
    "rejected_step_map",
    "image",
    "images",
    "image_path",
    "image_abs_path",
]


class PairsConfig(RecordsSection):
    """Where preference pairs come from."""

    layouts: ClassVar[str] = PAIRS
    fields: dict[FieldName, str] = {}
    """Names of fields here and in the file: `{prompt = "question", chosen = "better"}`; `a.b` is the field
    `b` of a table `a`."""
    validation: Annotated[float, Field(gt=0, lt=1)] | Path | None = None
    """Pairs that are measured and not trained: a share, chosen by their prompts, or a file with the keys of
    `[pairs]`."""
    too_long: Literal["error", "drop"] = "error"
    """A pair with an answer of more tokens than the model or `max_tokens` allows: refuse it, or leave it
    out."""
    max_tokens: int | None = Field(default=None, ge=2)
    """Most tokens of a prompt and an answer; the model's positions when not given."""
    batch_size: int = Field(default=32, ge=1, le=2**20)
    """Pairs per optimizer step."""

    @property
    def validation_file(self) -> "PairsConfig | None":
        """The file of pairs that are only measured, if there is one."""
        if not isinstance(self.validation, Path):
            return None
        own = {name: getattr(self, name) for name in ("layout", "fields", "image_root", "rendered")}
        return PairsConfig(path=self.validation, **own)

    def check_given(self) -> None:
        """Refuse a configuration without pairs.

        Raises:
            ValueError: naming the key.
        """
        if self.path is None and self.hub is None:
            raise ValueError(
                "pairs.path must name a file of preference pairs (docs/preferences.md), or pairs.hub a data set"
            )
