"""Checkpoints of image models: MAGVIT-v2, and the vision side of LLaDA-V.

Files are read as `checkpoints/weights.py` reads a language model's: names, shapes and number formats of the
headers are compared with the model before memory is taken for a weight.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import torch
from pydantic import Field
from torch import nn

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
from unmask.models.families.json_keys import MOST_SIZE, Keys, Size, read_json
from unmask.models.vision.image_codec import MOST_SIDE
from unmask.models.vision.lladav import LladavVision, LladavVisionSpec
from unmask.models.vision.magvit import (
    NUM_GROUPS,
    Levels,
    Magvit,
    MagvitSpec,
    latents_from_codes,
)
from unmask.models.vision.siglip import SiglipSpec

M = TypeVar("M", bound=nn.Module)
# The published file of MAGVIT-v2, whatever its name suggests.
PYTORCH_WEIGHTS = "pytorch_model.safetensors"
# What follows from the number of bits: the latents of every code, and the weight of every bit.
MAGVIT_LATENTS, MAGVIT_POWERS = "quantize.embedding", "quantize.power_vals"
# Names in LLaDA-V's checkpoint of the parts that begin with ours.
LLADAV_TOWER = "model.vision_tower.vision_tower.vision_model."
LLADAV_NAMES = {
    "tower.patches": f"{LLADAV_TOWER}embeddings.patch_embedding",
    "tower.positions": f"{LLADAV_TOWER}embeddings.position_embedding",
    "tower.": LLADAV_TOWER,
    "projector": "model.mm_projector",
    "newline": "model.image_newline",
}


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
    return _load_module(lambda: Magvit(spec), stored, torch.device(device), dtype, str)


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


def _load_module(
    build: Callable[[], M],
    stored: Mapping[str, Stored],
    device: torch.device,
    dtype: torch.dtype | None,
    stored_name: Callable[[str], str],
) -> M:
    """Return a module, built on the meta device, with the weights of a checkpoint."""
    with torch.device("meta"):
        module = build()
    held = {stored_name(name): (name, tensor) for name, tensor in held_tensors(module).items()}
    check_headers({place: tuple(tensor.shape) for place, (_, tensor) in held.items()}, stored)
    parts = {place: [Part(name)] for place, (name, _) in held.items()}
    fill_parts(module, parts, stored, device, dtype)
    return module


class TowerKeys(Keys):
    """Sizes of a tower; the number of layers counts the last one, which is not stored."""

    model_type: Literal["siglip_vision_model"] | None = None
    hidden_act: Literal["gelu_pytorch_tanh"] | None = None
    hidden_size: Size = 1152
    intermediate_size: Size = 4304
    num_hidden_layers: Annotated[int, Field(ge=2, le=256)] = 27
    num_attention_heads: Size = 16
    image_size: Annotated[int, Field(ge=1, le=2**12)] = 384
    patch_size: Annotated[int, Field(ge=1, le=2**12)] = 14
    layer_norm_eps: Annotated[float, Field(gt=0, lt=1)] = 1e-6


class LladavKeys(Keys):
    """The keys of LLaDA-V's config that its vision side follows from."""

    hidden_size: Size = 4096
    mm_vision_tower: str = ""
    mm_projector_type: Literal["mlp2x_gelu"] = "mlp2x_gelu"
    mm_patch_merge_type: Literal["spatial_unpad"] = "spatial_unpad"
    image_aspect_ratio: str | None = None
    image_grid_pinpoints: str | list[list[Annotated[int, Field(ge=1, le=MOST_SIDE)]]] | None = None
    vision_config: TowerKeys | None = None


def lladav_vision_spec(directory: Path) -> LladavVisionSpec:
    """Return the sizes of LLaDA-V's vision side; the tower's are in the config of tiny models only.

    Raises:
        ValueError: naming the file and the key that is of another type, size or kind.
    """
    file = directory / CONFIG
    keys = LladavKeys(**read_json(file, LladavKeys))
    if "siglip" not in keys.mm_vision_tower:
        raise ValueError(f"{file}: mm_vision_tower = {keys.mm_vision_tower!r}: only SigLIP is read")
    sizes = keys.vision_config or TowerKeys()
    tower = SiglipSpec(
        width=sizes.hidden_size,
        ffn_width=sizes.intermediate_size,
        num_layers=sizes.num_hidden_layers - 1,
        num_heads=sizes.num_attention_heads,
        image_size=sizes.image_size,
        patch_size=sizes.patch_size,
        norm_eps=sizes.layer_norm_eps,
    )
    if tower.width % tower.num_heads or tower.side < 1:
        raise ValueError(
            f"{file}: vision_config: hidden_size must be a multiple of num_attention_heads, and "
            "image_size at least patch_size"
        )
    if keys.image_aspect_ratio in (None, "pad"):
        return LladavVisionSpec(keys.hidden_size, tower)
    limit = re.fullmatch(r"anyres_max_(\d{1,3})", keys.image_aspect_ratio or "")
    if limit is None or limit[1] == "0":
        raise ValueError(
            f"{file}: image_aspect_ratio = {keys.image_aspect_ratio!r}: must be pad or anyres_max_N"
        )
    grids = _grids(keys.image_grid_pinpoints, tower.image_size, file)
    return LladavVisionSpec(keys.hidden_size, tower, grids, int(limit[1]))


def _grids(
    stated: str | list[list[int]] | None, tile: int, file: Path
) -> tuple[tuple[int, int], ...]:
    """Return grid sizes from a list of them, or from the first and last of `(1x1),...,(6x6)` in tiles."""
    if isinstance(stated, str):
        ends = [(int(x), int(y)) for x, y in re.findall(r"\((\d{1,2})x(\d{1,2})\)", stated)]
        (left, top), (right, bottom) = (ends[0], ends[-1]) if ends else ((1, 1), (0, 0))
        columns, rows = range(left, right + 1), range(top, bottom + 1)
        stated = [[x * tile, y * tile] for x in columns for y in rows]
    sizes = [(size[0], size[1]) for size in stated or [] if len(size) == 2]
    is_whole = all(x % tile == 0 < x and y % tile == 0 < y for x, y in sizes)
    if not sizes or len(sizes) < len(stated or []) or not is_whole:
        raise ValueError(
            f"{file}: image_grid_pinpoints must be pairs of multiples of {tile}, the pixels of a tile, "
            "or (1x1),...,(6x6)"
        )
    return tuple(sizes)


def load_lladav_vision(
    directory: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = torch.float32,
) -> LladavVision:
    """Load the vision side of a LLaDA-V checkpoint; the language model's tensors are left alone.

    Args:
        directory: of the checkpoint.
        device: device of the weights.
        dtype: number format in memory; `None` keeps each tensor's own.

    Raises:
        ValueError: naming the file, key or tensor that is missing, unexpected, of the wrong shape or
            unsupported.
    """
    directory = Path(directory)
    spec = lladav_vision_spec(directory)
    prefixes = tuple(LLADAV_NAMES.values())
    headers = read_headers(directory)
    stored = {name: place for name, place in headers.items() if name.startswith(prefixes)}
    if not stored:
        raise ValueError(f"{directory} holds no vision tower: it is a text model")
    return _load_module(
        lambda: LladavVision(spec), stored, torch.device(device), dtype, _lladav_name
    )


def _lladav_name(name: str) -> str:
    part = next(part for part in LLADAV_NAMES if name.startswith(part))
    return LLADAV_NAMES[part] + name.removeprefix(part)
