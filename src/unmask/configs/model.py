"""`[model]`: the checkpoint, its device and its dtype."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from unmask.configs.import_path import import_object
from unmask.configs.section import Section

DType = Literal["auto", "float32", "bfloat16", "float64"]


class ModelConfig(Section):
    """The checkpoint, its device and its dtype."""

    path: str
    """Directory in Hugging Face layout, or a hub id. Published checkpoints are such directories; `unmask init`
    writes one with random weights, `unmask convert` one from an autoregressive model, and a run one to
    `model/`."""
    adapter: str | None = None
    """Directory of LoRA adapters in peft's format, added to the checkpoint; for `generate` and `eval`.
    Training starts from whole weights."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`; `auto` is the GPU if there is one."""
    dtype: DType = "auto"
    """Number format of the weights in memory; `auto` is float32 on CPU and bfloat16 on CUDA."""
    mask_id: int | None = None
    """Mask token id; read from the checkpoint if not given."""
    block_size: int | None = Field(default=None, ge=1, le=2**20)
    """Positions per diffusion block; read from the checkpoint if not given."""
    family: str | None = None
    """Family of the checkpoint, by its name or as `module:OBJECT` if it stands outside the package; read from
    the checkpoint if not given."""
    gradient_checkpointing: bool = False
    """Recompute each layer in the backward pass: less memory, about a third more time."""
    compile: bool = False
    """Compile what layers compute before and after attention (`torch.compile`): fewer passes over memory,
    after seconds to minutes of compiling. The last bits of a row then depend on the other rows of its pass,
    so that a response depends on its batch. Not for layers with experts."""
    batch_invariant: bool = False
    """Compute every row in one order of sums, whatever else is in a pass: log-probabilities of engine and
    learner are then equal to the bit, and a response does not depend on the other responses. Slower
    on a GPU; experts do not run there."""

    @model_validator(mode="after")
    def _keeps_its_bits(self) -> "ModelConfig":
        if self.compile and self.batch_invariant:
            raise ValueError(
                "compile = true and batch_invariant = true: compiled kernels are chosen by shape, so their "
                "bits depend on the batch; give one of them"
            )
        return self

    @field_validator("family")
    @classmethod
    def _exists(cls, family: str | None) -> str | None:
        # Its type is above this layer, as are the names of the package's own families.
        if family and ":" in family and not hasattr(import_object(family, repr(family)), "modules"):
            raise ValueError(f"{family!r}: must be a Family (docs/add-a-family.md)")
        return family


def _has_whole_weights(model: ModelConfig) -> ModelConfig:
    if model.adapter is not None:
        raise ValueError(
            f"adapter = {model.adapter}: training starts from whole weights; give model.path = the "
            "model/ that the run of these adapters left, in which they are merged"
        )
    return model


TrainedModelConfig = Annotated[ModelConfig, AfterValidator(_has_whole_weights)]
