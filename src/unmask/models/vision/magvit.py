"""MAGVIT-v2: images as integer codes, and back.

A convolutional encoder halves an image once per level and ends in one number per bit. The look-up-free
quantizer keeps the signs: with latents z (channel 0 is the highest bit of `n`),

    code = sum_c [z_c > 0] * 2^(n - 1 - c),    and a code's latents are its bits as -1 and +1.

The decoder mirrors the encoder. Codes of an image are listed row by row; every parameter has the name it
has in the published checkpoint, whose two buffers follow from the number of bits and are not held.

Yu et al., "Language Model Beats Diffusion: Tokenizer is Key to Visual Generation" (2024); the network is the
one of MMaDA's image tokenizer, `showlab/magvitv2`.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NUM_GROUPS, NORM_EPS = 32, 1e-6


@dataclass(frozen=True, slots=True)
class Levels:
    """Sizes of one half of the network.

    Attributes:
        width: channels that the multipliers multiply.
        multipliers: of each level, finest first.
        num_blocks: residual blocks of each level.
    """

    width: int
    multipliers: tuple[int, ...]
    num_blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MagvitSpec:
    """Sizes of the tokenizer; the defaults are the published one's, whose config does not state them."""

    encoder: Levels = Levels(128, (1, 2, 2, 4, 4), (4, 3, 4, 3, 4))
    decoder: Levels = Levels(128, (1, 1, 2, 2, 4), (4, 4, 3, 4, 3))
    num_bits: int = 13

    @property
    def num_codes(self) -> int:
        """Number of different codes."""
        return 2**self.num_bits

    @property
    def scale(self) -> int:
        """Pixels per code, in each direction."""
        return 2 ** (len(self.encoder.multipliers) - 1)


class ResidualBlock(nn.Module):
    """Two normalised convolutions, added to the input."""

    def __init__(self, width: int, width_out: int) -> None:
        super().__init__()
        self.norm1 = _norm(width)
        self.conv1 = _conv(width, width_out)
        self.norm2 = _norm(width_out)
        self.conv2 = _conv(width_out, width_out)
        if width != width_out:
            self.nin_shortcut = _conv(width, width_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(B, width_out, h, w)` for `(B, width, h, w)`."""
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        return y + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class SpatialAttention(nn.Module):
    """Attention of every place to every place with one head, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _norm(width)
        self.q, self.k, self.v, self.proj_out = (_conv(width, width, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """Return `(B, width, h, w)` for the same shape."""
        y = self.norm(x)
        # places as rows, one head
        q, k, v = (part(y).flatten(2).mT[:, None] for part in (self.q, self.k, self.v))
        attended = F.scaled_dot_product_attention(q, k, v)[:, 0].mT.reshape(x.shape)
        return x + self.proj_out(attended)


class Downsample(nn.Module):
    """A convolution of stride 2 with padding on the right and at the bottom only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(B, width, h / 2, w / 2)`."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Every pixel as 2 x 2 equal ones, and a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = _conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(B, width, 2 h, 2 w)`."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(NUM_GROUPS, width, NORM_EPS)


def _conv(width: int, width_out: int, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(width, width_out, size, padding=size // 2)


def _chain(**parts: nn.Module) -> nn.Sequential:
    """Return modules that run one after the other, under the names of the checkpoint."""
    chain = nn.Sequential()
    for name, part in parts.items():
        chain.add_module(name, part)
    return chain


def _blocks(width: int, width_out: int, count: int) -> nn.Sequential:
    widths = (width, *(width_out for _ in range(count)))
    return nn.Sequential(*(ResidualBlock(a, width_out) for a in widths[:-1]))


def _middle(width: int) -> nn.Sequential:
    return _chain(
        block_1=ResidualBlock(width, width),
        attn_1=SpatialAttention(width),
        block_2=ResidualBlock(width, width),
    )


def _encoder(levels: Levels, num_bits: int) -> nn.Sequential:
    width, down = levels.width, nn.Sequential()
    for multiplier, count in zip(levels.multipliers, levels.num_blocks, strict=True):
        level = _chain(block=_blocks(width, levels.width * multiplier, count))
        width = levels.width * multiplier
        if len(down) < len(levels.multipliers) - 1:
            level.add_module("downsample", Downsample(width))
        down.append(level)
    return _chain(
        conv_in=_conv(3, levels.width),
        down=down,
        mid=_middle(width),
        norm_out=_norm(width),
        activation=nn.SiLU(),
        conv_out=_conv(width, num_bits),
        quant_conv=_conv(num_bits, num_bits, 1),
    )


def _decoder(levels: Levels, num_bits: int) -> nn.Sequential:
    deepest = width = levels.width * levels.multipliers[-1]
    up = (
        nn.Sequential()
    )  # runs from the deepest level to level 0, which have their numbers as names
    for number in reversed(range(len(levels.multipliers))):
        width_out = levels.width * levels.multipliers[number]
        level = _chain(block=_blocks(width, width_out, levels.num_blocks[number]))
        width = width_out
        if number > 0:
            level.add_module("upsample", Upsample(width))
        up.add_module(str(number), level)
    return _chain(
        post_quant_conv=_conv(num_bits, num_bits, 1),
        conv_in=_conv(num_bits, deepest),
        mid=_middle(deepest),
        up=up,
        norm_out=_norm(width),
        activation=nn.SiLU(),
        conv_out=_conv(width, 3),
    )


class Magvit(nn.Module):
    """The image tokenizer.

    Args:
        spec: its sizes.
    """

    def __init__(self, spec: MagvitSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = _encoder(spec.encoder, spec.num_bits)
        self.decoder = _decoder(spec.decoder, spec.num_bits)

    def latents(self, pixels: Tensor) -> Tensor:
        """Return `(B, n, h, w)` numbers whose signs are the bits.

        Args:
            pixels: `(B, 3, H, W)` in [-1, 1]; `h` and `w` are `H` and `W` over the scale.

        Raises:
            ValueError: if a side is no multiple of the scale.
        """
        height, width = pixels.shape[-2:]
        if height % self.spec.scale or width % self.spec.scale:
            raise ValueError(
                f"image of {width} x {height} pixels: its sides must be multiples of "
                f"{self.spec.scale}, the pixels per code"
            )
        return self.encoder(pixels)

    def encode(self, pixels: Tensor) -> Tensor:
        """Return `(B, h, w)` int64 codes of `pixels (B, 3, H, W)` in [-1, 1]; errors as `latents`."""
        return codes_from_latents(self.latents(pixels))

    def decode(self, codes: Tensor) -> Tensor:
        """Return `(B, 3, H, W)` pixels, about in [-1, 1], of `codes (B, h, w)`.

        Raises:
            ValueError: if a code does not exist.
        """
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < self.spec.num_codes:
            raise ValueError(
                f"image codes from {int(codes.min())} to {int(codes.max())}: "
                f"must be from 0 to {self.spec.num_codes - 1}"
            )
        latents = latents_from_codes(codes, self.spec.num_bits)
        return self.decoder(latents.to(next(self.parameters()).dtype))


def codes_from_latents(latents: Tensor) -> Tensor:
    """Return `(B, h, w)` int64 codes of `latents (B, n, h, w)`."""
    powers = 2 ** torch.arange(latents.shape[1] - 1, -1, -1, device=latents.device)
    return ((latents > 0) * powers[:, None, None]).sum(1)


def latents_from_codes(codes: Tensor, num_bits: int) -> Tensor:
    """Return `(B, n, h, w)` fp32 latents, -1 and +1, of `codes (B, h, w)`."""
    shifts = torch.arange(num_bits - 1, -1, -1, device=codes.device)
    bits = (codes[:, None] >> shifts[:, None, None]) & 1
    return bits.float() * 2 - 1


def uint8_from_pixels(pixels: Tensor) -> Tensor:
    """Return `(B, H, W, 3)` uint8 colours of `pixels (B, 3, H, W)`: limited to [-1, 1], rounded down."""
    return ((pixels.float() + 1) / 2).clamp(0, 1).mul(255).to(torch.uint8).permute(0, 2, 3, 1)
