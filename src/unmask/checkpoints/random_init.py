"""Random models of every family, at three sizes, with a tokenizer.

A random model has the architecture of a published family, down to its config and the names of its
tensors. It serves to try a recipe, to test code against a family whose released checkpoints are
large, and as the start of a model trained from nothing. The family states its tiny model
(`Family.tiny`); the larger sizes keep its conventions. The same seed gives the same bytes.

The tokenizer has one token per byte, so that it reads any text, or one per character of an alphabet.
"""

from dataclasses import replace
from pathlib import Path

from unmask.checkpoints.checkpoint import save_model
from unmask.checkpoints.tokenizer import (
    EOS,
    MASK,
    Tokenizer,
    character_tokenizer,
    num_tokens,
    write_tokenizer,
)
from unmask.models.families import family_named
from unmask.models.families.mmada import ids_behind
from unmask.models.spec import ModelSpec
from unmask.models.transformer import Model, initialise

# Fields of a `ModelSpec` and, for families with experts, of its `MoESpec`: about 25 and 85 million
# parameters. The family's own tiny model changes none.
SIZES: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "tiny": ({}, {}),
    "small": (
        {"num_layers": 8, "width": 512, "num_heads": 8, "num_kv_heads": 4, "ffn_width": 1408},
        {"num_experts": 8, "num_active": 2, "width": 176},
    ),
    "medium": (
        {"num_layers": 12, "width": 768, "num_heads": 12, "num_kv_heads": 4, "ffn_width": 2304},
        {"num_experts": 16, "num_active": 4, "width": 144},
    ),
}


def init(
    destination: str | Path,
    family: str,
    size: str = "tiny",
    seed: int = 0,
    alphabet: str | None = None,
) -> Model:
    """Write a random model with a tokenizer, and return it.

    Args:
        destination: directory that does not exist yet, or is empty.
        family: a name that `family_named` takes.
        size: a name in `SIZES`.
        seed: of every weight.
        alphabet: the characters that are tokens; one token per byte when not given.

    Raises:
        ValueError: naming the argument and the values it may have.
    """
    destination = Path(destination)
    require_unused(destination)
    random_spec(family, size, 3)  # refused before anything is written
    by_byte = alphabet is None
    tokenizer = (
        byte_tokenizer(destination) if by_byte else character_tokenizer(alphabet, destination)
    )
    model = Model(random_spec(family, size, num_tokens(tokenizer)))
    initialise(model, seed)
    save_model(model, destination)
    model.source = destination
    return model


def require_unused(destination: Path) -> None:
    """Refuse a destination that exists, unless it is an empty directory."""
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise ValueError(f"{destination} is there already: give a directory that is new or empty")


def random_spec(family: str, size: str, vocab_size: int) -> ModelSpec:
    """Return the spec of a family at a size, for a tokenizer whose ids 0 and 1 are `<eos>` and `<mask>`.

    Raises:
        ValueError: naming the argument and the values it may have.
    """
    if size not in SIZES:
        raise ValueError(f"size = {size!r}: must be one of {', '.join(SIZES)}")
    tiny, (shape, experts) = family_named(family).tiny, SIZES[size]
    image_ids, num_rows = tiny.image_ids, vocab_size
    if image_ids is not None:
        image_ids = ids_behind(vocab_size, image_ids)
        num_rows = image_ids.image_offset + image_ids.num_codes
    vision = tiny.vision and replace(tiny.vision, width=shape.get("width", tiny.width))
    spec = replace(
        tiny,
        vocab_size=num_rows,
        num_drawable=vocab_size,
        image_ids=image_ids,
        vision=vision,
        **shape,
    )
    if not shape:
        return spec
    # The shares of rotated dimensions and of shared experts stay those of the tiny model.
    head_width, rotary, moe = spec.width // spec.num_heads, tiny.rotary_width, tiny.moe
    if rotary is not None:
        rotary = head_width * rotary // tiny.head_width
    if moe is not None:
        num_dense = tiny.num_layers - len(moe.layers)  # the first layers
        grown = replace(moe, layers=tuple(range(num_dense, spec.num_layers)), **experts)
        moe = replace(grown, shared_width=grown.width * moe.shared_width // moe.width)
    return replace(spec, head_width=head_width, rotary_width=rotary, moe=moe)


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
