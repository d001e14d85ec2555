"""What a checkpoint is, in numbers: the only thing the backbone is built from.

A family (`models/families`) reads its `config.json` into a `ModelSpec`; nothing after that asks
which family it was. A number that the config does not carry (mask id, block size) may be given by
the caller.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The shape and the conventions of one model.

    Attributes:
        family: name of the family that read it, for messages and exports.
        num_layers: transformer layers.
        width: `D`.
        num_heads: `H` query heads.
        num_kv_heads: `Hk` key and value heads; each serves `H / Hk` neighbouring query heads.
        head_width: `E`; `H * E` need not be `D`.
        ffn_width: width of the gated feed-forward layer.
        vocab_size: `V`, rows of the embedding and of the head.
        max_length: most positions it was made for.
        rope_theta: base of the rotary frequencies.
        norm_eps: epsilon of every RMSNorm.
        has_qkv_bias: whether the query, key and value projections have a bias.
        has_qk_norm: whether queries and keys are normed per head before rotation.
        is_tied: whether the head shares the embedding's weight.
        mask_id: id of the mask token; `None` when nobody knows it, and then sampling and views
            refuse to work.
        block_size: `K`, slots of a diffusion block.
        num_drawable: token ids below this (the mask id excepted) may be written; the rest of the
            `V` rows are padding that no tokenizer can decode.
        eos_ids: token ids that end a text.
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
    has_qkv_bias: bool
    has_qk_norm: bool
    is_tied: bool
    mask_id: int | None
    block_size: int
    num_drawable: int
    eos_ids: tuple[int, ...]

    def require_mask_id(self) -> int:
        """Return the mask id.

        Raises:
            ValueError: if the checkpoint does not say it and the caller did not either.
        """
        if self.mask_id is None:
            raise ValueError(
                "mask_id is unknown: neither config.json nor the tokenizer names a mask token; "
                "pass mask_id=... to load_model, or set model.mask_id in the config"
            )
        return self.mask_id
