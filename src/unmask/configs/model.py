"""`[model]`: which checkpoint, and how it is held."""

from typing import Literal

from pydantic import Field, field_validator

from unmask.configs.import_path import import_object
from unmask.configs.section import Section

DType = Literal["auto", "float32", "bfloat16", "float64"]


class ModelConfig(Section):
    """Which checkpoint, and how it is held."""

    path: str
    """Directory in Hugging Face layout, or a hub id. Published checkpoints are such directories, `unmask init`
    makes one with random weights, `unmask convert` one of an autoregressive model, and a run leaves one in
    `model/`."""
    adapter: str | None = None
    """Directory of LoRA adapters, in peft's files, laid over the checkpoint; for `generate` and `eval`.
    Training starts from whole weights."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`; `auto` is the GPU if there is one."""
    dtype: DType = "auto"
    """Number format of the weights in memory; `auto` is float32 on CPU and bfloat16 on CUDA."""
    matmul: Literal["default", "onednn", "packed"] = "default"
    """Kernels of float32 matrix products on CPU: torch's own choice; oneDNN's, up to twice as fast on
    AMD processors (`onednn`); or oneDNN's with a second copy of the weights laid out for them, which
    the engine uses (`packed`)."""
    mask_id: int | None = None
    """Mask token id; found in the checkpoint when not given."""
    block_size: int | None = Field(default=None, ge=1, le=2**20)
    """Slots per diffusion block; found in the checkpoint when not given."""
    family: str | None = None
    """Family of the checkpoint, by its name or as `module:OBJECT` if it stands outside the package; found in
    the checkpoint when not given."""
    gradient_checkpointing: bool = False
    """Recompute each layer in the backward pass: less memory, about a third more time."""

    @field_validator("family")
    @classmethod
    def _exists(cls, family: str | None) -> str | None:
        # Its type is above this layer, as are the names of the package's own families.
        if family and ":" in family and not hasattr(import_object(family, repr(family)), "modules"):
            raise ValueError(f"{family!r}: must be a Family (docs/add-a-family.md)")
        return family
