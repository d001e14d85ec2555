"""The backbone shared by all families, and the root module that is trained, sampled from and saved.

A pre-norm decoder over *packed* tokens: there is no batch dimension and no padding inside, only `T`
tokens with integer positions, and an `attend` that applies the attention mask. Training, the reference
sampler and the engine run this module and differ in that argument alone.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unmask.models.attention import Attend, plan_rows, round_up
from unmask.models.feed_forward import FeedForward
from unmask.models.heads import LanguageHead, MostLikely, RMSNorm, Scores, Targets, Top
from unmask.models.linear import Linear
from unmask.models.moe import MixtureOfExperts
from unmask.models.row_tile import products, row_tile
from unmask.models.spec import ModelSpec, RopeScaling
from unmask.types import PromptImage

# What `Vision.features` returns for one picture; and pictures of a pass: vectors `(n, D)` or features.
Features = Any
Images = Tensor | Sequence[Features]


class Vision(Protocol):
    """The vision side of a model, a module of its backbone: from pictures to vectors."""

    def features(self, images: Sequence[PromptImage]) -> Sequence[Features]:
        """Return what no gradient passes, of each picture."""
        ...

    def __call__(self, features: Sequence[Features]) -> Tensor:
        """Return the vectors `(n, D)` of pictures, one after another."""
        ...


def image_features(
    vision: Vision | None, images: Sequence[PromptImage]
) -> Sequence[Features] | None:
    """Return the features of pictures, for `Model.forward`; `None` without pictures.

    Raises:
        ValueError: if the model reads no pictures, or naming the one that cannot be read.
    """
    if not images:
        return None
    if vision is None:
        raise ValueError("the prompt holds pictures, but this model reads text only")
    return vision.features(images)


def image_vectors(vision: Vision | None, images: Sequence[PromptImage]) -> Tensor | None:
    """Return the vectors `(n, D)` of pictures; errors as `image_features`."""
    features = image_features(vision, images)
    return None if vision is None or features is None else vision(features)


def build_vision(spec: ModelSpec) -> Vision | None:
    """Return the uninitialised vision side of a model, if it has one."""
    if spec.vision is None:
        return None
    from unmask.models.vision.lladav import LladavVision  # imports transformers

    return LladavVision(spec.vision)


def zero_of(module: Any, like: Tensor) -> Tensor:
    """Return a zero that depends on each trained weight of a module, in the number format of a tensor.

    It gives a pass without images a gradient for the vision side, which is zero: ranks reduce the gradients of all
    weights together, whichever of them has images.
    """
    trained = [] if module is None else [p for p in module.parameters() if p.requires_grad]
    return sum((p.flatten()[0].to(like) * 0 for p in trained), like.new_zeros(()))


class RotaryTables(NamedTuple):
    """Factors of `rotate`, in fp32 or wider.

    Attributes:
        cos: `(T, 1, E)` cosines of every position's angles, for both rotated halves; 1 in the rest.
        sin: `(T, 1, E)` sines, negative for the first half; 0 in the rest.
        half: number of dimensions in each rotated half.
    """

    cos: Tensor
    sin: Tensor
    half: int


def rotary_frequencies(spec: ModelSpec, wide: torch.dtype, device: torch.device) -> Tensor:
    """Return the angle `(rotary width / 2,)` per position of each pair, scaled down as the spec asks."""
    width = spec.rotary_width or spec.head_width
    exponents = torch.arange(0, width, 2, device=device, dtype=wide)
    frequencies = 1.0 / spec.rope_theta ** (exponents / width)
    return frequencies if spec.rope_scaling is None else scaled(frequencies, spec.rope_scaling)


def scaled(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Return the frequencies of a Llama 3 model for those of an unscaled one, of any shape."""
    turns = scaling.original_length * frequencies / (2 * math.pi)
    kept = (turns - scaling.low_factor) / (scaling.high_factor - scaling.low_factor)
    kept = kept.clamp(0, 1)
    return frequencies * (kept + (1 - kept) / scaling.factor)


def rotary_tables(positions: Tensor, spec: ModelSpec, dtype: torch.dtype) -> RotaryTables:
    """Return the tables of `positions (T,)`."""
    wide = torch.promote_types(dtype, torch.float32)
    angles = positions[:, None].to(wide) * rotary_frequencies(spec, wide, positions.device)
    cos, sin = angles.cos(), angles.sin()
    half = angles.shape[-1]
    rest = (0, spec.head_width - 2 * half)
    return RotaryTables(
        F.pad(torch.cat((cos, cos), -1), rest, value=1.0)[:, None],
        F.pad(torch.cat((-sin, sin), -1), rest)[:, None],
        half,
    )


def rotate(x: Tensor, tables: RotaryTables) -> Tensor:
    """Rotate the leading dimensions of `x (T, heads, E)`: the first half of them pairs with the second."""
    half = tables.half
    first, second, rest = x.tensor_split((half, 2 * half), dim=-1)
    return (x * tables.cos + torch.cat((second, first, rest), dim=-1) * tables.sin).to(x.dtype)


class Attention(nn.Module):
    """Projections around an `attend`."""

    def __init__(self, spec: ModelSpec) -> None:
        """Build the four projections, and the per-head norms where the family has them."""
        super().__init__()
        self.head_width = spec.head_width
        heads, kv_heads = spec.num_heads * spec.head_width, spec.num_kv_heads * spec.head_width
        self.q = Linear(spec.width, heads, bias=spec.has_qkv_bias)
        self.k = Linear(spec.width, kv_heads, bias=spec.has_qkv_bias)
        self.v = Linear(spec.width, kv_heads, bias=spec.has_qkv_bias)
        self.out = Linear(heads, spec.width)
        norm = spec.has_qk_norm
        self.q_norm = RMSNorm(spec.head_width, spec.norm_eps) if norm else nn.Identity()
        self.k_norm = RMSNorm(spec.head_width, spec.norm_eps) if norm else nn.Identity()

    def heads(self, x: Tensor, tables: RotaryTables) -> tuple[Tensor, Tensor, Tensor]:
        """Return `q (T, H, E)` and `k, v (T, Hk, E)` of `x (T, D)`, normed and rotated."""
        heads = (-1, self.head_width)
        q = self.q_norm(self.q(x).unflatten(-1, heads))  # (T, H, E)
        k = self.k_norm(self.k(x).unflatten(-1, heads))  # (T, Hk, E)
        v = self.v(x).unflatten(-1, heads)
        q, k = rotate(torch.cat((q, k), 1), tables).split((q.shape[1], k.shape[1]), 1)
        return q, k, v


def build_ffn(spec: ModelSpec, layer: int) -> nn.Module:
    """Return the feed-forward of a layer: experts where the spec has them, dense elsewhere."""
    if spec.moe is not None and layer in spec.moe.layers:
        return MixtureOfExperts(spec.width, spec.moe)
    return FeedForward(spec.width, spec.ffn_width)


class Layer(nn.Module):
    """One transformer layer: attention, then feed-forward, each after a norm and added to the stream."""

    def __init__(self, spec: ModelSpec, index: int) -> None:
        """Build both halves of layer `index`."""
        super().__init__()
        self.attention_norm = RMSNorm(spec.width, spec.norm_eps)
        self.attention = Attention(spec)
        self.ffn_norm = RMSNorm(spec.width, spec.norm_eps)
        self.ffn = build_ffn(spec, index)
        self.before, self.after = before_attention, after_attention

    def forward(self, x: Tensor, tables: RotaryTables, attend: Attend, layer: int) -> Tensor:
        """Add both halves' contributions to the stream `x (T, D)`."""
        q, k, v = self.before(self, x, tables)
        return self.after(self, x, attend(layer, q, k, v))


def before_attention(
    layer: Layer, x: Tensor, tables: RotaryTables
) -> tuple[Tensor, Tensor, Tensor]:
    """Return `q (T, H, E)` and `k, v (T, Hk, E)` of the stream `x (T, D)`."""
    return layer.attention.heads(layer.attention_norm(x), tables)


def after_attention(layer: Layer, x: Tensor, mixed: Tensor) -> Tensor:
    """Add what attention mixed `(T, H, E)`, and the feed-forward, to the stream `x (T, D)`."""
    x = x + layer.attention.out(mixed.flatten(-2))
    return x + layer.ffn(layer.ffn_norm(x))


@cache
def compiled_halves() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return both halves of a layer compiled: all layers share one graph each, for each kind of call.

    Not at import: the compiler takes a second to load.
    """
    return torch.compile(before_attention), torch.compile(after_attention)


class Backbone(nn.Module):
    """Token ids to hidden states of the scored rows."""

    def __init__(self, spec: ModelSpec) -> None:
        """Build embedding, layers and final norm."""
        super().__init__()
        self.spec = spec
        self.gradient_checkpointing = False
        self.is_compiled = False
        # `nn.Embedding` would draw normal numbers, which on the meta device imports torch's compiler:
        # a second and 70 MiB every time a checkpoint is loaded.
        weight = torch.empty(spec.vocab_size, spec.width)
        self.embedding = nn.Embedding.from_pretrained(weight, freeze=False)
        self.layers = nn.ModuleList(Layer(spec, index) for index in range(spec.num_layers))
        self.norm = RMSNorm(spec.width, spec.norm_eps)
        self.vision = build_vision(spec)

    def compile_layers(self) -> None:
        """Compile what every layer computes before and after attention, which stays as it is.

        Kernels are chosen and fused by shape: the bits of a row may depend on how many rows there are.

        Raises:
            ValueError: if layers have experts, whose sizes a graph would fix.
        """
        if self.spec.moe is not None:
            raise ValueError(
                "model.compile = true: layers with experts cannot be compiled; give model.compile = false"
            )
        self.is_compiled = True
        for layer in self.layers:
            assert isinstance(layer, Layer)
            layer.before, layer.after = compiled_halves()

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        attend: Attend,
        scored: Tensor,
        images: Images | None = None,
    ) -> Tensor:
        """Return the normed hidden states `(S, D)` of rows `scored` of `tokens (T,)`; see `Model.forward`."""
        x = self._inputs(tokens, images)
        tables = rotary_tables(positions, self.spec, x.dtype)
        for index, layer in enumerate(self.layers):
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(layer, x, tables, attend, index, use_reentrant=False)
            else:
                x = layer(x, tables, attend, index)
        return self.norm(x.index_select(0, scored))

    def _inputs(self, tokens: Tensor, images: Images | None) -> Tensor:
        """Return embeddings `(T, D)`, of negative ids the row `-1 - id` of the images' vectors."""
        if images is None:
            x = self.embedding(tokens)
            return x + zero_of(self.vision, x) if torch.is_grad_enabled() else x
        if isinstance(images, Tensor):
            vectors = images
        else:
            assert self.vision is not None, "its features are of images"
            vectors = self.vision(images)
        x = self.embedding(tokens.clamp(min=0))
        rows = vectors.to(x.dtype).index_select(0, (-1 - tokens).clamp(min=0))
        return torch.where((tokens < 0)[:, None], rows, x)


class Model(nn.Module):
    """Backbone and head: the one module that is trained, compiled, sampled from and saved."""

    def __init__(self, spec: ModelSpec) -> None:
        """Build an uninitialised model; weights come from a checkpoint or from `initialise`."""
        super().__init__()
        self.spec = spec
        self.backbone = Backbone(spec)
        self.head = LanguageHead(spec)
        self.source: Path | None = None  # directory it was loaded from, whose files an export keeps
        self.is_batch_invariant = False  # see `models/batch_invariant.py`
        self.tie()

    def tie(self) -> None:
        """Share the embedding's weight with the head, where the family does."""
        if self.spec.is_tied:
            self.head.projection.weight = self.backbone.embedding.weight

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.head.drawable.device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the weights."""
        return self.backbone.embedding.weight.dtype

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        attend: Attend,
        scored: Tensor,
        targets: Targets | MostLikely | None = None,
        images: Images | None = None,
    ) -> Tensor | Scores | Top:
        """Run packed tokens through the model.

        Args:
            tokens: `(T,)` token ids; a negative one stands for row `-1 - id` of the vectors of `images`.
            positions: `(T,)` integer positions.
            attend: attention under a mask; see `models/attention.py`.
            scored: `(S,)` rows whose output is returned.
            targets: tokens to score there, a request for the most probable ones, or `None` for logits.
            images: vectors `(n, D)` of pictures, in place of token embeddings, or the features of pictures.

        Returns:
            Raw fp32 logits `(S, V)` without targets, `Scores` with them, `Top` of a request.
        """
        return self.head(self.backbone(tokens, positions, attend, scored, images), targets)

    def logits(
        self,
        input_ids: Tensor,
        positions: Tensor | None = None,
        allowed: Tensor | None = None,
        vectors: Tensor | None = None,
    ) -> Tensor:
        """Return the dense reference logits, raw and never shifted: slow and simple.

        Args:
            input_ids: `(B, L)` token ids; negative ones as in `forward`.
            positions: `(L,)` or `(B or 1, L)` rotary positions; `0 .. L-1` when not given.
            allowed: `(B or 1, L, L)` bool, the keys of each query; the family's own pattern when not
                given. A row without any key gives finite logits.
            vectors: `(n, D)` of pictures.

        Returns:
            `(B, L, V)`, fp32 or wider.
        """
        batch, length = input_ids.shape
        device = input_ids.device
        if positions is None:
            positions = torch.arange(length, device=device)
        if allowed is None:
            allowed = attention_pattern(self.spec, length, device)[None]
        count = batch * length
        num_rows = round_up(count, row_tile(products(self)))
        padding = (0, num_rows - count)
        logits = self(
            F.pad(input_ids.flatten(), padding),
            F.pad(positions.expand(batch, length).flatten(), padding),
            plan_rows(allowed.expand(batch, length, length), num_rows),
            torch.arange(num_rows, device=device),
            images=vectors,
        )
        return logits[:count].unflatten(0, (batch, length))


def attention_pattern(spec: ModelSpec, length: int, device: torch.device | None = None) -> Tensor:
    """Return the `(L, L)` bool attention pattern of a model over `L` tokens."""
    if spec.is_full:
        return torch.ones(length, length, dtype=torch.bool, device=device)
    assert spec.block_size is not None
    return block_causal(length, spec.block_size, device)


def block_causal(length: int, block: int, device: torch.device | None = None) -> Tensor:
    """Return the `(L, L)` bool pattern in which block i attends to blocks up to i, counted from position 0."""
    blocks = torch.arange(length, device=device) // block
    return blocks[None, :] <= blocks[:, None]


# Projections into the residual stream: scaled so that its variance does not grow with the layers.
RESIDUAL_PROJECTIONS = ("attention.out.weight", "down.weight")


@torch.no_grad()
def initialise(model: Model, seed: int) -> None:
    """Draw fresh weights: std `1/sqrt(fan_in)`, projections into the residual stream scaled by `1/sqrt(2 layers)`.

    Biases are zero, norms one.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        if parameter.dim() < 2 and not name.endswith("newline"):
            continue
        # Of a convolution, all inputs of one output.
        std = parameter.shape[-1] ** -0.5 if parameter.dim() < 4 else parameter[0].numel() ** -0.5
        if name.endswith(RESIDUAL_PROJECTIONS):
            std /= (2 * model.spec.num_layers) ** 0.5
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
