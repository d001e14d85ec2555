"""`[lora]`: train small adapters beside frozen weights instead of the weights themselves."""

from pydantic import Field

from unmask.configs.section import Section


class LoRAConfig(Section):
    """Low-rank adapters on the linear projections; without this section every weight is trained."""

    rank: int = Field(default=16, ge=1, le=2**16)
    """Rank of each adapter's two matrices."""
    alpha: float = Field(default=32.0, gt=0)
    """What an adapter adds is scaled by `alpha / rank`."""
    targets: tuple[str, ...] = Field(default=("all",), min_length=1)
    """Projections that are adapted: `all`, `attention`, `ffn`, or module names such as
    `attention.q` (in every layer) and `backbone.layers.3.ffn.down` (in one)."""
