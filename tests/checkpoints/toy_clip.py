"""A tiny random CLIP model in a directory, as transformers writes it, with a tokenizer of bytes."""

from pathlib import Path
from typing import Any

import torch

MOST_TOKENS, SIDE = 16, 32


def write_clip(directory: Path) -> Any:
    """Write a model that reads `MOST_TOKENS` tokens and images of `SIDE` pixels, and return it."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    bytes_ = sorted(ByteLevel.alphabet())
    names = [*bytes_, *(f"{one}</w>" for one in bytes_), "<|startoftext|>", "<|endoftext|>"]
    vocab = {name: place for place, name in enumerate(names)}
    CLIPTokenizer(vocab=vocab, merges=[]).save_pretrained(directory)
    crop = {"height": SIDE, "width": SIDE}
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=crop).save_pretrained(directory)
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    start, end = vocab["<|startoftext|>"], vocab["<|endoftext|>"]
    ids = {"bos_token_id": start, "eos_token_id": end, "pad_token_id": end}
    text = {"vocab_size": len(vocab), "max_position_embeddings": MOST_TOKENS, **ids, **sizes}
    vision = {"image_size": SIDE, "patch_size": 8, **sizes}
    torch.manual_seed(0)
    # Larger weights than transformers starts with, so that scores of different images and texts differ.
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    model = CLIPModel(config).eval()
    for weight in model.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.2)
    model.save_pretrained(directory)
    return model


def png(seed: int, width: int = 40, height: int = 24) -> bytes:
    """Return a file of random pixels."""
    from PIL import Image

    from unmask.images import image_from

    pixels = torch.randint(
        256, (height, width, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )
    return image_from(Image.fromarray(pixels.numpy())).data
