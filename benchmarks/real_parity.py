"""A converted model against `transformers` on its source: logits under a causal mask, and a greedy answer."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unmask.checkpoints.checkpoint import load_model
from unmask.checkpoints.image_reader import prompt_tokens
from unmask.checkpoints.tokenizer import decode, load_tokenizer
from unmask.models.transformer import Model
from unmask.types import Message

QUESTION = "What is the capital of France?"
MAX_TOKENS = 16


def parity(source: Path, converted: Path) -> dict[str, Any]:
    """Return the largest gap of fp32 logits, their standard deviation, and the greedy answer of our model.

    Args:
        source: autoregressive checkpoint, which `transformers` loads.
        converted: the diffusion model that `unmask convert` made of it.
    """
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(converted)
    ours = load_model(converted)
    ids = torch.tensor([prompt_tokens([Message("user", QUESTION)], tokenizer).token_ids])
    text = greedy(ours, ids)
    whole = torch.cat((ids, text), dim=1)
    theirs = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    with torch.no_grad():
        wanted = theirs(whole).logits
    rows = torch.arange(wanted.shape[-1])
    rows = rows[rows != ours.spec.mask_id]  # the mask token's row is new
    gap = causal_logits(ours, whole)[..., rows] - wanted[..., rows]
    return {
        "largest_gap": float(gap.abs().max()),
        "logits_std": float(wanted.std()),
        "answer": decode(text[0].tolist(), tokenizer),
        "answer_of_transformers": decode(_generated(theirs, ids), tokenizer),
    }


def causal_logits(model: Model, ids: Tensor) -> Tensor:
    """Return the logits `(1, T, V)` of a model whose every row attends to the rows up to itself."""
    length = ids.shape[1]
    with torch.no_grad():
        return model.logits(ids, allowed=torch.ones(1, length, length, dtype=torch.bool).tril())


def greedy(model: Model, ids: Tensor) -> Tensor:
    """Return the most likely tokens `(1, N)` one after the other, as an autoregressive model writes them."""
    start = ids.shape[1]
    while ids.shape[1] < start + MAX_TOKENS and int(ids[0, -1]) not in model.spec.eos_ids:
        following = causal_logits(model, ids)[:, -1:].argmax(-1)  # (1, 1): after the last row
        ids = torch.cat((ids, following), dim=1)
        if int(following) in model.spec.eos_ids:
            break
    return ids[:, start:]


def _generated(model: Any, ids: Tensor) -> list[int]:
    with torch.no_grad():
        return model.generate(ids, max_new_tokens=MAX_TOKENS, do_sample=False)[
            0, ids.shape[1] :
        ].tolist()
