# Copyright the authors of unmask. SPDX-License-Identifier: Apache-2.0
"""The modelling file that `unmask export` writes next to weights without published modelling code.

A diffusion language model for `transformers`, with torch and transformers as its only imports:

    model = AutoModelForCausalLM.from_pretrained(DIR, trust_remote_code=True)
    logits = model(input_ids).logits  # (B, L, V): of token i in row i, or of token i + 1 if `is_shifted`

`config.json` keeps the keys of its family and states under `unmask` the shape of the decoder and the name that the
family gives to each of its modules, so that one file serves every family.
"""

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput


class UnmaskConfig(PretrainedConfig):
    """The content of `config.json`."""

    def __init__(self, **fields: Any) -> None:
        """Keep every field, except an attention implementation of the published code, and a null that warns."""
        fields.pop("attn_implementation", None)
        if fields.get("rope_scaling") is None:
            fields.pop("rope_scaling", None)
        else:  # transformers 5 puts it into these two
            self.rope_parameters = None
            self.max_position_embeddings = fields.get("max_position_embeddings")
        super().__init__(**fields)

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> "UnmaskConfig":
        """Read `config.json`; its `model_type` is the family's."""
        cls.model_type = cls.get_config_dict(*args, **kwargs)[0].get("model_type", "")
        return super().from_pretrained(*args, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """Return the content; `save_pretrained` keeps the family's architecture, by which others find the family."""
        content = super().to_dict()
        if "unmask" in content:
            content["architectures"] = content["unmask"]["architectures"]
        return content


def widen(x: Tensor) -> Tensor:
    """Return `x` in fp32, or in fp64 if it is that."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def add(root: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module at a dotted name below `root`."""
    *path, leaf = name.split(".")
    for part in path:
        if not hasattr(root, part):
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    root.add_module(leaf, module)


def rotary_angles(
    positions: Tensor, spec: SimpleNamespace, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return cosine and sine `(B, 1, L, rotated / 2)` of positions `(B, L)`, in fp32 or wider."""
    width = spec.rotary_width or spec.head_width
    pairs = torch.arange(
        0, width, 2, device=positions.device, dtype=torch.promote_types(dtype, torch.float32)
    )
    frequencies = 1.0 / spec.rope_theta ** (pairs / width)
    if (scaling := spec.rope_scaling) is not None:  # Llama 3.1
        turns = scaling["original_length"] * frequencies / (2 * torch.pi)
        low, high = scaling["low_factor"], scaling["high_factor"]
        kept = ((turns - low) / (high - low)).clamp(0, 1)
        frequencies = frequencies * (kept + (1 - kept) / scaling["factor"])
    angles = positions[:, None, :, None] * frequencies
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the leading dimensions of `x (B, heads, L, E)`: the first half of them pairs with the second."""
    half = cos.shape[-1]
    first, second, rest = x.tensor_split((half, 2 * half), dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin, rest), -1).to(x.dtype)


class UnmaskLayer(nn.Module):
    """One layer; its modules have the names that the family's checkpoints give them."""

    def __init__(self, spec: SimpleNamespace, index: int) -> None:
        """Build attention and feed-forward of layer `index`."""
        super().__init__()
        self.spec, width, head = spec, spec.width, spec.head_width
        self.names = {role: name.partition("{i}.")[2] for role, name in spec.names.items()}
        self.moe: Any = spec.moe if spec.moe and index in spec.moe["layers"] else None
        for role in ("attention_norm", "ffn_norm"):
            self._add(role, nn.RMSNorm(width, spec.norm_eps))
        self.rows = [spec.num_heads * head, spec.num_kv_heads * head, spec.num_kv_heads * head]
        fused: dict[str, int] = {}  # a family may store queries, keys and values as one matrix
        for role, rows in zip("qkv", self.rows, strict=True):
            name = self.names[f"attention.{role}"]
            fused[name] = fused.get(name, 0) + rows
        self.fused = list(fused)
        for name, rows in fused.items():
            add(self, name, nn.Linear(width, rows, bias=spec.has_qkv_bias))
        for role in ("attention.q_norm", "attention.k_norm") if spec.has_qk_norm else ():
            self._add(role, nn.RMSNorm(head, spec.norm_eps))
        self._add("attention.out", nn.Linear(self.rows[0], width, bias=False))
        if self.moe is None:
            self._add_ffn("ffn", spec.ffn_width)
            return
        count = self.moe["num_experts"]
        self._add("ffn.router", nn.Linear(width, count, bias=False))
        if self.moe["has_bias"]:
            holder, _, leaf = self.names["ffn.router.expert_bias"].rpartition(".")
            self.get_submodule(holder).register_buffer(leaf, torch.zeros(count))
        for expert in range(count):
            self._add_ffn("ffn.experts", self.moe["width"], expert)
        if self.moe["shared_width"]:
            self._add_ffn("ffn.shared", self.moe["shared_width"])

    def _part(self, role: str, expert: int = 0) -> Any:
        return self.get_submodule(self.names[role].replace("{e}", str(expert)))

    def _add(self, role: str, module: nn.Module, expert: int = 0) -> None:
        add(self, self.names[role].replace("{e}", str(expert)), module)

    def _add_ffn(self, role: str, width: int, expert: int = 0) -> None:
        outer = self.spec.width
        for part in ("gate", "up"):
            self._add(f"{role}.{part}", nn.Linear(outer, width, bias=False), expert)
        self._add(f"{role}.down", nn.Linear(width, outer, bias=False), expert)

    def _ffn(self, x: Tensor, role: str, expert: int = 0) -> Tensor:
        gate, up, down = (self._part(f"{role}.{part}", expert) for part in ("gate", "up", "down"))
        return down(F.silu(gate(x)) * up(x))

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor], seen: Tensor | None) -> Tensor:
        """Add attention and feed-forward to the stream `x (B, L, D)`."""
        mixed = self._attention(self._part("attention_norm")(x), angles, seen)
        x = x + self._part("attention.out")(mixed)
        normed = self._part("ffn_norm")(x)
        return x + (self._ffn(normed, "ffn") if self.moe is None else self._experts(normed))

    def _attention(self, x: Tensor, angles: tuple[Tensor, Tensor], seen: Tensor | None) -> Tensor:
        rows = torch.cat([self.get_submodule(name)(x) for name in self.fused], -1)
        q, k, v = (
            part.unflatten(-1, (-1, self.spec.head_width)).transpose(1, 2)  # (B, heads, L, E)
            for part in rows.split(self.rows, -1)
        )
        if self.spec.has_qk_norm:
            q, k = self._part("attention.q_norm")(q), self._part("attention.k_norm")(k)
        q, k = rotate(q, *angles), rotate(k, *angles)
        shared = self.spec.num_heads // self.spec.num_kv_heads
        k, v = k.repeat_interleave(shared, 1), v.repeat_interleave(shared, 1)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        return mixed.transpose(1, 2).flatten(2)

    def _experts(self, x: Tensor) -> Tensor:
        rows = x.flatten(0, -2)  # (tokens, D)
        chosen, weights = self._route(rows)
        mixed = torch.zeros_like(widen(rows))
        for expert in chosen.unique().tolist():
            token, rank = (chosen == expert).nonzero(as_tuple=True)
            output = widen(self._ffn(rows[token], "ffn.experts", expert))
            mixed.index_add_(0, token, output * weights[token, rank, None])
        mixed = mixed.to(x.dtype)
        if self.moe["shared_width"]:
            mixed = mixed + self._ffn(rows, "ffn.shared")
        return mixed.view_as(x)

    def _route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the experts of each row and their weights, `(tokens, active)` each."""
        moe, bias = self.moe, 0.0
        logits = F.linear(widen(x), widen(self._part("ffn.router").weight))
        if moe["has_bias"]:
            bias = widen(self.get_buffer(self.names["ffn.router.expert_bias"]))
        if moe["router"] == "softmax":
            weights, chosen = (logits.softmax(-1) + bias).topk(moe["num_active"])
        else:  # the bias enters the choice alone, which is among the groups with the best two experts
            scores = logits.sigmoid()
            grouped = (scores + bias).unflatten(-1, (moe["num_groups"], -1))
            best = grouped.topk(2, -1).values.sum(-1).topk(moe["num_active_groups"]).indices
            kept = torch.zeros_like(grouped[..., 0], dtype=torch.bool).scatter(1, best, True)
            grouped = grouped.masked_fill(~kept[..., None], -torch.inf)
            chosen = grouped.flatten(1).topk(moe["num_active"]).indices
            weights = scores.gather(1, chosen)
        if moe["renormalises"]:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        return chosen, weights * moe["scale"]


class UnmaskForCausalLM(PreTrainedModel):
    """A diffusion language model under full or block-causal attention."""

    config_class = UnmaskConfig
    _supports_sdpa = True

    def __init__(self, config: UnmaskConfig) -> None:
        """Build the modules that `config.unmask` names."""
        super().__init__(config)
        self.spec = spec = SimpleNamespace(**config.unmask)
        self._no_split_modules = ["UnmaskLayer"]
        self._keep_in_fp32_modules_strict = ["expert_bias"]
        self._keys_to_ignore_on_load_unexpected = spec.unused
        add(self, spec.names["embedding"], nn.Embedding(spec.vocab_size, spec.width))
        layers = nn.ModuleList(UnmaskLayer(spec, index) for index in range(spec.num_layers))
        add(self, spec.names["attention_norm"].partition(".{i}")[0], layers)
        add(self, spec.names["norm"], nn.RMSNorm(spec.width, spec.norm_eps))
        if not spec.is_tied:
            add(
                self,
                spec.names["head.projection"],
                nn.Linear(spec.width, spec.vocab_size, bias=False),
            )
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding."""
        return self.get_submodule(self.spec.names["embedding"])

    def get_output_embeddings(self) -> nn.Module | None:
        """Return the head; `None` where it is the embedding."""
        return None if self.spec.is_tied else self.get_submodule(self.spec.names["head.projection"])

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | str | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        block_size: int | None = None,
    ) -> CausalLMOutput:
        """Return the logits `(B, L, V)`, fp32 or wider, of every position.

        Args:
            input_ids: `(B, L)` token ids, the mask token's where a token is to be predicted.
            attention_mask: `(B, L)`, 0 at padding; or `(B or 1, 1, L, L)`, the keys of each query in place of the
                family's own pattern: true or 1 where one is seen, or in a floating-point format 0 there and
                negative elsewhere. None, or the word `full` that Dream's code takes, hides nothing.
            position_ids: `(B or 1, L)`; by default counted from the first token that is not padding. Blocks are
                counted from position 0.
            inputs_embeds: `(B, L, D)`, in place of the token ids.
            block_size: in place of that of `config.json`, for block-causal attention.
        """
        embedding = self.get_input_embeddings()
        x = embedding(input_ids) if inputs_embeds is None else inputs_embeds
        if position_ids is None:
            position_ids = torch.arange(x.shape[1], device=x.device)[None]
            if isinstance(attention_mask, Tensor) and attention_mask.dim() == 2:
                position_ids = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
        seen = self._seen(attention_mask, position_ids, block_size)
        angles = rotary_angles(position_ids, self.spec, x.dtype)
        layers: Any = self.get_submodule(self.spec.names["attention_norm"].partition(".{i}")[0])
        for layer in layers:
            x = layer(x, angles, seen)
        x = self.get_submodule(self.spec.names["norm"])(x)
        head: Any = self.get_output_embeddings() or embedding
        return CausalLMOutput(logits=widen(F.linear(x, head.weight)))

    def _seen(
        self, mask: Tensor | str | None, positions: Tensor, block_size: int | None
    ) -> Tensor | None:
        """Return `(B or 1, 1, L, L)` bool, the keys of each query; `None` if each sees all."""
        if isinstance(mask, Tensor) and mask.dim() == 4:
            return mask >= 0 if mask.is_floating_point() else mask.bool()
        seen = None
        if self.spec.attention == "block_causal":
            stated = getattr(self.config, self.spec.block_key or "", None)
            blocks = positions // (block_size or stated or self.spec.block_size)
            seen = (blocks[:, None, :] <= blocks[:, :, None])[:, None]
        if isinstance(mask, Tensor) and not mask.all():
            kept = mask.bool()[:, None, None, :]
            seen = kept if seen is None else seen & kept
            # A query at padding that sees nothing sees itself, so that its row is finite.
            itself = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
            seen = seen | (itself & ~seen.any(-1, keepdim=True))
        return seen
