"""Random models of every family, small enough for a laptop, usable at once.

A fresh model has the architecture of a published family, down to its config and the names of its
tensors, and none of its knowledge. It serves to try a recipe, to test code against a family whose
released checkpoints are large, and as the beginning of a model trained from nothing. What makes a
family itself (attention pattern, shift, norms, kind of router) is in `TRAITS`; how large it is, in
`SIZES`, and any number of it can be changed. The same seed gives the same bytes.

Its tokenizer has one token per byte, so that it reads any text, or one per character of an alphabet.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unmask.checkpoints.checkpoint import save_model
from unmask.checkpoints.tokenizer import (
    EOS,
    MASK,
    Tokenizer,
    character_tokenizer,
    num_tokens,
    write_tokenizer,
)
from unmask.models.families import FAMILIES, family_named
from unmask.models.spec import ModelSpec, MoESpec
from unmask.models.transformer import Model, initialise


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a model is.

    Attributes:
        layers: transformer layers.
        width: `D`.
        heads: query heads.
        kv_heads: key and value heads.
        ffn_width: width of a dense feed-forward.
        experts: experts of a layer; families without experts do not read this or the next two.
        active_experts: experts a token is sent to.
        expert_width: width of an expert.
        head_width: `E`; 0 is `width / heads`.
        max_length: most positions.
        block_size: slots of a diffusion block; 0 is the family's own.
        tied: whether the head shares the embedding's weight.
    """

    layers: int
    width: int
    heads: int
    kv_heads: int
    ffn_width: int
    experts: int
    active_experts: int
    expert_width: int
    head_width: int = 0
    max_length: int = 2048
    block_size: int = 0
    tied: bool = False


SIZES: dict[str, Shape] = {
    "tiny": Shape(2, 64, 4, 2, 192, 8, 2, 32),
    "small": Shape(8, 512, 8, 4, 1408, 8, 2, 176),
    "medium": Shape(12, 768, 12, 4, 2304, 16, 4, 144),
}


@dataclass(frozen=True, slots=True)
class Traits:
    """What tells a family's models from another's at any size.

    Attributes:
        spec: fields of its `ModelSpec`.
        moe: fields of its `MoESpec`; `None` for a dense family.
        num_dense_layers: layers before those with experts.
        num_shared: experts' widths of the feed-forward that every token passes.
        rotated_share: share of a head's dimensions that is rotated.
        has_head_width: whether its config can say a head width other than `width / heads`.
    """

    spec: Mapping[str, Any]
    moe: Mapping[str, Any] | None = None
    num_dense_layers: int = 0
    num_shared: int = 0
    rotated_share: float = 1.0
    has_head_width: bool = False


_QWEN3: dict[str, Any] = {"has_qkv_bias": False, "has_qk_norm": True}
_QWEN2: dict[str, Any] = {"has_qkv_bias": True, "has_qk_norm": False, "is_shifted": True}
_LLADA: dict[str, Any] = {
    "has_qkv_bias": False,
    "has_qk_norm": False,
    "attention": "full",
    "block_size": 32,
}
_GROUPED: dict[str, Any] = {
    "router": "grouped_sigmoid",
    "renormalises": True,
    "scale": 2.5,
    "num_groups": 4,
    "num_active_groups": 2,
    "has_bias": True,
}
TRAITS: dict[str, Traits] = {
    "sdar": Traits({**_QWEN3, "block_size": 4}, has_head_width=True),
    "sdar_moe": Traits({**_QWEN3, "block_size": 4}, {"renormalises": True}, has_head_width=True),
    "llada": Traits(_LLADA),
    "mmada": Traits(_LLADA),
    "llada_moe": Traits({**_LLADA, "has_qk_norm": True}, {}),
    "llada2": Traits(
        {**_QWEN3, "block_size": 32},
        _GROUPED,
        num_dense_layers=1,
        num_shared=1,
        rotated_share=0.5,
        has_head_width=True,
    ),
    "dream": Traits({**_QWEN2, "attention": "full", "block_size": None}, has_head_width=True),
    "fast_dllm_v2": Traits({**_QWEN2, "block_size": 32, "sub_block_size": 8}),
}


def init(
    destination: str | Path,
    family: str,
    size: str = "tiny",
    seed: int = 0,
    alphabet: str | None = None,
    **changes: int | bool | None,
) -> Model:
    """Write a random model with a tokenizer, and return it.

    Args:
        destination: directory that does not exist yet, or is empty.
        family: a name in `FAMILIES`.
        size: a name in `SIZES`.
        seed: of every weight.
        alphabet: the characters that are tokens; one token per byte when not given.
        changes: fields of `Shape` to change; `None` leaves one as it is.

    Raises:
        ValueError: naming the argument and what it may be.
    """
    destination = Path(destination)
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise ValueError(f"{destination} is there already: give a directory that is new or empty")
    fresh_spec(family, size, 3, **changes)  # refused before anything is written
    by_byte = alphabet is None
    tokenizer = (
        byte_tokenizer(destination) if by_byte else character_tokenizer(alphabet, destination)
    )
    model = Model(fresh_spec(family, size, num_tokens(tokenizer), **changes))
    initialise(model, seed)
    save_model(model, destination)
    model.source = destination
    return model


def fresh_spec(family: str, size: str, vocab_size: int, **changes: int | bool | None) -> ModelSpec:
    """Return the spec of a family at a size, for a tokenizer whose ids 0 and 1 are `<eos>` and `<mask>`.

    Args:
        family: a name in `FAMILIES`.
        size: a name in `SIZES`.
        vocab_size: ids of the tokenizer.
        changes: fields of `Shape` to change; `None` leaves one as it is.

    Raises:
        ValueError: naming the argument and what it may be.
    """
    known = {f.name for f in FAMILIES}
    if family not in known:
        raise ValueError(f"family = {family!r}: must be one of {', '.join(sorted(known))}")
    if size not in SIZES:
        raise ValueError(f"size = {size!r}: must be one of {', '.join(SIZES)}")
    given = {name: value for name, value in changes.items() if value is not None}
    traits = TRAITS[family]
    shape = replace(SIZES[size], **given)
    head_width = _head_width(family, shape, traits)
    _require_counts(shape)
    fields = dict(traits.spec)
    if shape.block_size:
        if family_named(family).block_key is None:
            raise ValueError(
                f"block_size = {shape.block_size}: the config of {family} cannot state one; leave it out"
            )
        fields["block_size"] = shape.block_size
    is_partial = traits.rotated_share != 1
    return ModelSpec(
        family=family,
        num_layers=shape.layers,
        width=shape.width,
        num_heads=shape.heads,
        num_kv_heads=shape.kv_heads,
        head_width=head_width,
        ffn_width=shape.ffn_width,
        vocab_size=vocab_size,
        max_length=shape.max_length,
        rope_theta=1e4,
        norm_eps=1e-6,
        is_tied=shape.tied,
        mask_id=1,
        num_drawable=vocab_size,
        eos_ids=(0,),
        rotary_width=int(head_width * traits.rotated_share) if is_partial else None,
        moe=_experts(family, shape, traits),
        **fields,
    )


def _require_counts(shape: Shape) -> None:
    for name in ("layers", "heads", "kv_heads", "width", "ffn_width", "max_length"):
        if getattr(shape, name) < 1:
            raise ValueError(f"{name} = {getattr(shape, name)}: must be at least 1")
    if shape.block_size < 0:
        raise ValueError(f"block_size = {shape.block_size}: must be at least 1")
    if shape.heads % shape.kv_heads:
        raise ValueError(
            f"kv_heads = {shape.kv_heads}: {shape.heads} heads cannot be shared out evenly; "
            "take a divisor"
        )


def _head_width(family: str, shape: Shape, traits: Traits) -> int:
    if shape.heads < 1 or (not shape.head_width and shape.width % shape.heads):
        raise ValueError(
            f"heads = {shape.heads}: must divide width = {shape.width}, or give head_width"
        )
    width = shape.head_width or shape.width // shape.heads
    if not traits.has_head_width and width * shape.heads != shape.width:
        raise ValueError(
            f"head_width = {width}: the config of {family} cannot state one; "
            f"{shape.width} / {shape.heads} it has to be"
        )
    rotated = width * traits.rotated_share
    if rotated < 2 or rotated % 2:
        raise ValueError(
            f"head_width = {width}: {family} rotates {rotated:g} dimensions of a head, which must "
            "be an even number"
        )
    return width


def _experts(family: str, shape: Shape, traits: Traits) -> MoESpec | None:
    if traits.moe is None:
        return None
    groups = traits.moe.get("num_groups", 1)
    if shape.layers <= traits.num_dense_layers:
        raise ValueError(
            f"layers = {shape.layers}: {family} has {traits.num_dense_layers} dense, then experts"
        )
    # A group is chosen by its two best experts.
    step = 2 * groups if groups > 1 else 1
    if shape.experts < 1 or shape.experts % step:
        raise ValueError(f"experts = {shape.experts}: must be a multiple of {step} for {family}")
    most = shape.experts // groups * traits.moe.get("num_active_groups", 1)
    least = 2 if traits.moe.get("renormalises") else 1
    if not least <= shape.active_experts <= most:
        raise ValueError(
            f"active_experts = {shape.active_experts}: must lie between {least} and {most}"
        )
    return MoESpec(
        layers=tuple(range(traits.num_dense_layers, shape.layers)),
        num_experts=shape.experts,
        num_active=shape.active_experts,
        width=shape.expert_width,
        shared_width=shape.expert_width * traits.num_shared,
        **traits.moe,
    )


def byte_tokenizer(directory: str | Path, has_mask: bool = True) -> Tokenizer:
    """Write a tokenizer with one token per byte, and return it.

    Ids: `<eos>` (which also pads) 0, `<mask>` 1 if there is one, then the 256 bytes. The files
    are `tokenizer.json` and `tokenizer_config.json`.
    """
    from tokenizers import Tokenizer as Backend
    from tokenizers.decoders import ByteLevel as ByteDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel

    tokens = [EOS, *([MASK] if has_mask else []), *sorted(ByteLevel.alphabet())]
    backend = Backend(BPE({token: index for index, token in enumerate(tokens)}, []))
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = ByteDecoder()
    return write_tokenizer(backend, directory, has_mask)
