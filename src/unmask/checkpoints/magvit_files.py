"""Checkpoints of MAGVIT-v2, the image tokenizer of MMaDA.

Files are read as `checkpoints/weights.py` reads a language model's: names, shapes and number formats of the
headers are compared with the model before memory is taken for a weight.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from unmask.checkpoints.weights import (
    WEIGHTS,
    Part,
    Stored,
    check_headers,
    fill_parts,
    held_tensors,
    open_tensors,
    read_headers,
)
from unmask.models.families.config_file import CONFIG
from unmask.models.families.json_keys import MOST_SIZE, Keys, read_json
from unmask.models.vision.magvit import (
    NUM_GROUPS,
    Levels,
    Magvit,
    MagvitSpec,
    latents_from_codes,
)

# The published file of MAGVIT-v2, whatever its name suggests.
PYTORCH_WEIGHTS = "pytorch_model.safetensors"
# What follows from the number of bits: the latents of every code, and the weight of every bit.
MAGVIT_LATENTS, MAGVIT_POWERS = "quantize.embedding", "quantize.power_vals"


# Bounds of what is built before the files' headers are compared with it.
PerLevel = Annotated[list[Annotated[int, Field(ge=1, le=64)]], Field(min_length=1, max_length=16)]
Bits = Annotated[int, Field(ge=1, le=20)]


class LevelKeys(Keys):
    """One half of a tokenizer."""

    ch: Annotated[int, Field(ge=NUM_GROUPS, le=MOST_SIZE, multiple_of=NUM_GROUPS)] = 128
    ch_mult: PerLevel | None = None
    num_res_blocks: PerLevel | None = None
    z_channels: Bits | None = None


class QuantizerKeys(Keys):
    """The quantizer of a tokenizer."""

    codebook_dim: Bits | None = None


class MagvitKeys(Keys):
    """The keys of a tokenizer's config; the published one states no sizes."""

    encoder: LevelKeys | None = None
    decoder: LevelKeys | None = None
    quantizer: QuantizerKeys | None = None


def magvit_spec(directory: Path) -> MagvitSpec:
    """Return the sizes of an image tokenizer; what `config.json` does not state is the published one's.

    Raises:
        ValueError: naming the file and the key that is of another type or size, or the keys that
            contradict each other.
    """
    file, usual = directory / CONFIG, MagvitSpec()
    keys = MagvitKeys(**read_json(file, MagvitKeys))
    encoder, decoder = (half or LevelKeys() for half in (keys.encoder, keys.decoder))
    quantizer = keys.quantizer or QuantizerKeys()
    stated = (quantizer.codebook_dim, encoder.z_channels, decoder.z_channels)
    bits = {count for count in stated if count is not None} or {usual.num_bits}
    halves = _levels(encoder, usual.encoder), _levels(decoder, usual.decoder)
    lengths = {len(part) for half in halves for part in (half.multipliers, half.num_blocks)}
    if len(bits) > 1:
        raise ValueError(
            f"{file}: quantizer.codebook_dim and z_channels of encoder and decoder are "
            f"{sorted(bits)}: must be one number of bits"
        )
    if len(lengths) > 1:
        raise ValueError(
            f"{file}: ch_mult and num_res_blocks of encoder and decoder have {sorted(lengths)} "
            "numbers: must have one per level"
        )
    return MagvitSpec(*halves, bits.pop())


def _levels(keys: LevelKeys, usual: Levels) -> Levels:
    multipliers, num_blocks = keys.ch_mult or usual.multipliers, keys.num_res_blocks
    return Levels(keys.ch, tuple(multipliers), tuple(num_blocks or usual.num_blocks))


def load_magvit(
    directory: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = torch.float32,
) -> Magvit:
    """Load an image tokenizer.

    Args:
        directory: with `config.json`, and `model.safetensors` or `pytorch_model.safetensors`.
        device: device of the weights.
        dtype: number format in memory; `None` keeps each tensor's own.

    Raises:
        ValueError: naming the file, key or tensor that is missing, unexpected, of the wrong shape or
            unsupported.
    """
    directory = Path(directory)
    spec = magvit_spec(directory)
    names = [name for name in (WEIGHTS, PYTORCH_WEIGHTS) if (directory / name).is_file()]
    if len(names) > 1:
        raise ValueError(f"{directory} holds {' and '.join(names)}: remove the one that is stale")
    stored = read_headers(directory, (*names, PYTORCH_WEIGHTS)[0])
    _check_quantizer(spec, stored)
    derived = (MAGVIT_LATENTS, MAGVIT_POWERS)
    stored = {name: place for name, place in stored.items() if name not in derived}
    with torch.device("meta"):
        codec = Magvit(spec)
    held = held_tensors(codec)
    check_headers({name: tuple(tensor.shape) for name, tensor in held.items()}, stored)
    parts = {name: [Part(name)] for name in held}
    fill_parts(codec, parts, stored, torch.device(device), dtype)
    return codec


def _check_quantizer(spec: MagvitSpec, stored: Mapping[str, Stored]) -> None:
    """Compare the buffers of a quantizer, where they are stored, with ours.

    Raises:
        ValueError: if the checkpoint counts its bits in another order.
    """
    codes = torch.arange(spec.num_codes)
    latents = latents_from_codes(codes[None, None], spec.num_bits)[0, :, 0].T  # (codes, bits)
    powers = 2 ** torch.arange(spec.num_bits - 1, -1, -1)
    for name, expected in ((MAGVIT_LATENTS, latents), (MAGVIT_POWERS, powers)):
        if name not in stored:
            continue
        file, shape, _ = stored[name]
        with open_tensors(file) as reader:
            if shape != expected.shape or not reader.get_tensor(name).double().equal(
                expected.double()
            ):
                raise ValueError(
                    f"{file}: tensor {name!r} is not that of {spec.num_bits} bits, highest first"
                )
