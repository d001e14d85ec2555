"""`ModelSpec`: the shape and conventions of a checkpoint, from which the backbone is built.

A family (`models/families`) reads its `config.json` into a `ModelSpec`; the modules do not depend on the
family after that. Fields that the config lacks (mask id, block size) may be given by the caller.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from unmask.models.vision.lladav import LladavVisionSpec
    from unmask.models.vision.mmada_prompt import MmadaIds

# `full`: every token attends to every other. `block_causal`: block i attends to the blocks up to i.
AttentionPattern = Literal["full", "block_causal"]
# How experts are chosen: by probability, or by sigmoid scores within the best groups of experts.
Router = Literal["softmax", "grouped_sigmoid"]


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """Scaling of `llama3` rotary frequencies for long contexts (Llama 3.1).

    Attributes:
        factor: divisor of frequencies whose wavelength is above `original_length / low_factor`.
        low_factor: see `factor`; between the two bounds the divisor is interpolated.
        high_factor: wavelengths below `original_length / high_factor` do not change.
        original_length: positions that the unscaled model was trained on.
    """

    factor: float
    low_factor: float
    high_factor: float
    original_length: int


@dataclass(frozen=True, slots=True)
class MoESpec:
    """The mixture of experts that replaces a layer's feed-forward.

    Attributes:
        layers: indices of the layers that have it.
        num_experts: experts per layer.
        num_active: experts that each token is sent to.
        width: width of an expert.
        shared_width: width of the feed-forward that every token passes in addition; 0 for none.
        router: how experts are chosen and weighted.
        renormalises: whether a token's weights are made to sum to one (times `scale`).
        scale: factor on the weights.
        num_groups: groups the experts are split into; 1 for no grouping.
        num_active_groups: groups that are kept.
        has_bias: whether each expert has a bias that no gradient trains: `grouped_sigmoid` adds it for
            the choice alone, `softmax` to the weights too.
    """

    layers: tuple[int, ...]
    num_experts: int
    num_active: int
    width: int
    shared_width: int = 0
    router: Router = "softmax"
    renormalises: bool = False
    scale: float = 1.0
    num_groups: int = 1
    num_active_groups: int = 1
    has_bias: bool = False


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The shape and the conventions of one model.

    Attributes:
        family: name of the family, for messages and exports.
        num_layers: transformer layers.
        width: `D`.
        num_heads: `H` query heads.
        num_kv_heads: `Hk` key and value heads; each serves `H / Hk` neighbouring query heads.
        head_width: `E`; `H * E` need not be `D`.
        ffn_width: width of the gated feed-forward layer.
        vocab_size: `V`, rows of the embedding and of the head.
        max_length: largest number of positions it was trained on.
        rope_theta: base of the rotary frequencies.
        norm_eps: epsilon of every RMSNorm.
        is_tied: whether the head shares the embedding's weight.
        mask_id: id of the mask token; `None` where it is unknown, and sampling and views refuse.
        block_size: `K`, positions of a diffusion block. Under full attention blocks are only the order
            of writing, and `None` makes the whole response one block.
        num_drawable: token ids below this (the mask id excepted) may be written; the rest of the
            `V` rows are padding that no tokenizer can decode.
        eos_ids: token ids that end a response.
        has_qkv_bias: whether the query, key and value projections have a bias.
        has_qk_norm: whether queries and keys are normed per head before rotation.
        attention: attention pattern.
        is_shifted: whether row i predicts token i + 1, as in models that were autoregressive once.
        rotary_width: leading dimensions of each head that are rotated; `None` is all of them.
        rope_scaling: scaling of the rotary frequencies, if any.
        moe: experts, if it has any.
        sub_block_size: positions of a block that its published sampler opens at a time; `None` is all.
        vision: of a model whose images are vectors in place of token embeddings.
        image_ids: of a model whose images are tokens.
    """

    family: str
    num_layers: int
    width: int
    num_heads: int
    num_kv_heads: int
    head_width: int
    ffn_width: int
    vocab_size: int
    max_length: int
    rope_theta: float
    norm_eps: float
    is_tied: bool
    mask_id: int | None
    block_size: int | None
    num_drawable: int
    eos_ids: tuple[int, ...]
    has_qkv_bias: bool = False
    has_qk_norm: bool = False
    attention: AttentionPattern = "block_causal"
    is_shifted: bool = False
    rotary_width: int | None = None
    rope_scaling: RopeScaling | None = None
    moe: MoESpec | None = None
    sub_block_size: int | None = None
    vision: "LladavVisionSpec | None" = None
    image_ids: "MmadaIds | None" = None

    @property
    def is_full(self) -> bool:
        """Whether every token attends to every other."""
        return self.attention == "full"

    def require_mask_id(self) -> int:
        """Return the mask id.

        Raises:
            ValueError: if neither the checkpoint nor the caller gave one.
        """
        if self.mask_id is None:
            raise ValueError(
                "mask_id is unknown: neither config.json nor the tokenizer names a mask token; "
                "pass mask_id=... to load_model, or set model.mask_id in the config"
            )
        return self.mask_id

    def require_block(self, stated: int | None = None) -> int | None:
        """Return the block size of the training layout; `None` under full attention, which has no blocks.

        Args:
            stated: takes precedence over the model's own.

        Raises:
            ValueError: if attention is block-causal and the block size is unknown.
        """
        if self.is_full:
            return None
        block = stated or self.block_size
        if block is None:
            raise ValueError(
                "block_size is unknown: config.json does not name it; pass block_size=... to "
                "load_model, or set model.block_size in the config"
            )
        return block
