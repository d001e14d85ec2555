"""`[model]`: the checkpoint, its device and its dtype."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from unmask.configs.import_path import import_object
from unmask.configs.section import Section
from unmask.images import ImagePreprocess

DType = Literal["auto", "float32", "bfloat16", "float64"]
# See `models/trained_parts.py`.
TrainedParts = Literal["language", "projector", "with_projector", "all", "published_layers"]


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
    image_codec: str | None = None
    """Directory of the image tokenizer (MAGVIT-v2) of a model whose images are tokens, such as MMaDA."""
    image_preprocess: ImagePreprocess = "pad"
    """How an image becomes the square that an image tokenizer reads: padded with white, cropped in the middle, or
    squashed. They give different codes: evaluate a model with the one that it was trained with. A model with tiles,
    such as LLaDA-V, states its own recipe."""
    trains: TrainedParts = "language"
    """Parts of a model with images that are trained: `language`, the language model; `projector`, what maps images
    to its embeddings, alone; `with_projector`, both; `all`, the image tower too; `published_layers`, the language
    model without its token embeddings, which is what dLLM-RL trains of LLaDA-V."""
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
