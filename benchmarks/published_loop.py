"""The published sampling loop of block-diffusion models, in its shape and with its costs."""

import random
from collections.abc import Sequence

import torch
from published_rows import attend_rows
from shapes import BLOCK
from torch import Tensor
from update_cost import clock

from unmask.models.transformer import Model


def make_prompts(count: int, shortest: int, longest: int, vocab: int) -> list[tuple[int, ...]]:
    """Draw prompts of ids that are not the mask."""
    rng = random.Random(0)
    lengths = [rng.randint(shortest, longest) for _ in range(count)]
    return [tuple(rng.randrange(vocab - 1) for _ in range(n)) for n in lengths]


class Loop:
    """The published loop: one sequence, whole blocks, a commit pass after each."""

    def __init__(self, model: Model, per_pass: int) -> None:
        """Keep the model and how many tokens a pass reveals."""
        self.model, self.per_pass = model, per_pass
        self.cache: list[tuple[Tensor, Tensor]] = []

    def forward(self, tokens: Tensor, start: int, keeps: bool) -> Tensor:
        """Return logits of every row fed; `keeps` adds their keys and values to the cache."""
        kept: list[tuple[Tensor, Tensor]] = []

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            if self.cache:
                k, v = (
                    torch.cat((old, new))
                    for old, new in zip(self.cache[layer], (k, v), strict=True)
                )
            kept.append((k, v))
            return attend_rows(q[None], k[None], v[None], mask)[0]

        tokens = tokens.to(self.model.device)
        end = start + len(tokens)
        keys = torch.arange(end, device=tokens.device)
        positions = keys[start:]
        mask = (keys // BLOCK <= positions[:, None] // BLOCK)[None, None]
        logits = self.model(tokens, positions, attend, keys[: len(tokens)])
        assert isinstance(logits, Tensor)
        if keeps:
            self.cache = kept
        return logits

    @torch.inference_mode()
    def write(self, prompt: Sequence[int], count: int) -> tuple[list[int], float, float]:
        """Return the tokens after a prompt, and the seconds of prefill and of decoding."""
        mask_id, whole = self.model.spec.require_mask_id(), len(prompt) // BLOCK * BLOCK
        self.cache = []
        began = clock(self.model.device)
        if whole:
            self.forward(torch.tensor(prompt[:whole]), 0, keeps=True)
        prefilled = clock(self.model.device)
        text = list(prompt)
        while len(text) < len(prompt) + count:
            start = len(text) // BLOCK * BLOCK
            block = torch.full((BLOCK,), mask_id)
            block[: len(text) - start] = torch.tensor(text[start:], dtype=torch.int64)
            block = block.to(self.model.device)
            while (block == mask_id).any():
                self.reveal(block, self.forward(block, start, keeps=False))
            self.forward(block, start, keeps=True)
            text[start:] = block.tolist()
        return text[len(prompt) :], prefilled - began, clock(self.model.device) - prefilled

    def reveal(self, block: Tensor, logits: Tensor) -> None:
        """Write the most confident tokens of a block."""
        mask_id = self.model.spec.require_mask_id()
        logits[:, mask_id] = -torch.inf
        best = logits.softmax(-1).max(-1)
        hidden = block == mask_id
        count = min(self.per_pass, int(hidden.sum()))
        chosen = best.values.masked_fill(~hidden, -torch.inf).topk(count).indices
        block[chosen] = best.indices[chosen]
