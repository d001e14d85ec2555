"""`[lora]`: train low-rank adapters instead of the weights."""

from dataclasses import dataclass
from typing import Annotated

from unmask.bounds import LARGEST, Bound, check_fields
from unmask.configs.model import ModelConfig
from unmask.configs.section import Section


@dataclass(frozen=True)
class LoRAParams:
    """Which projections are adapted, and how.

    Raises:
        ValueError: a value is not accepted.
    """

    rank: Annotated[int, Bound(ge=1, le=2**16)] = 16
    """Rank of each adapter's two matrices."""
    alpha: Annotated[float, Bound(gt=0, le=LARGEST)] = 32.0
    """An adapter's output is scaled by `alpha / rank`."""
    targets: Annotated[tuple[str, ...], Bound(min_length=1)] = ("all",)
    """Projections that are adapted: `all`, or the beginning of module names: `attention`, `ffn` or
    `attention.q` (in every layer), `backbone.layers.3.ffn.down` (in one). Experts are adapted only where
    they are named: `ffn.experts`, `ffn.experts.gate`."""

    def __post_init__(self) -> None:
        """Check the fields."""
        check_fields(self)


def check_trained_parts(model: ModelConfig, lora: LoRAParams | None) -> None:
    """Refuse parts of a model that adapters do not train.

    Raises:
        ValueError: naming both keys.
    """
    if lora is not None and model.trains != "language":
        raise ValueError(
            f"model.trains = {model.trains} with [lora]: adapters are the only weights that are then trained; "
            "leave one of them out"
        )


class LoRAConfig(Section, LoRAParams):  # pyright: ignore[reportGeneralTypeIssues] - frozen by pydantic
    """Low-rank adapters on the linear projections; without this section every weight is trained."""
