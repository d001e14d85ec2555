"""Small GGUF files, written as llama.cpp writes them: the metadata, tokenizer and tensors of a random model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

WIDTH, FFN, LAYERS, HEADS, KV_HEADS, HEAD_WIDTH, ROWS = 64, 256, 2, 4, 2, 16, 320
TEXTS = (
    "Ann has 1234 apples, doesn't she?  Yes:\n\n she has 17!",
    "We'LL see\r\n\tthat caf\u00e9 \u4f60\u597d \U0001f600 costs 12,5 \u20ac",
    "cafe\u0301 x = y**2  # fin",
    "<|im_start|>user\nhello<|im_end|> <think>",
)
# Config keys of the checkpoint, by those below the architecture's name.
KEYS = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
}
# Names of llama.cpp, by the published ones.
NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def random_model(kind: str, **changes: Any) -> Any:
    """Return a random model of `transformers`, for `Llama`, `Qwen2` or `Qwen3`."""
    fields: dict[str, Any] = {
        "vocab_size": ROWS,
        "hidden_size": WIDTH,
        "intermediate_size": FFN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_WIDTH,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 50000.0},
        "bos_token_id": None,
        "eos_token_id": 2,
        **changes,
    }
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**fields)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms too: zeros would hide a mix-up
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def published_tokenizer(pre: str) -> Any:
    """Return a small trained tokenizer with the published split of a name in `tokenizer.ggml.pre`."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, trainers
    from tokenizers import pre_tokenizers as parts

    words = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )

    def split(digits: str) -> Any:
        to_bytes = parts.ByteLevel(add_prefix_space=False, use_regex=False)
        return parts.Sequence([parts.Split(Regex(words % digits), "isolated"), to_bytes])

    plain = parts.ByteLevel(add_prefix_space=False)
    splits = {
        "gpt-2": plain,
        "smollm": parts.Sequence([parts.Digits(individual_digits=True), plain]),
        "qwen2": split(""),
        "llama-bpe": split("{1,3}"),
    }
    tokenizer = Tokenizer(models.BPE(ignore_merges=pre == "llama-bpe"))
    tokenizer.pre_tokenizer = splits[pre]
    tokenizer.decoder = decoders.ByteLevel()
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=ROWS - 12,
        special_tokens=special,
        initial_alphabet=parts.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*TEXTS, "the apples 12 1234 123 apples she has"], trainer)
    tokenizer.add_tokens([AddedToken("<think>", normalized=False)])
    return tokenizer


def tokenizer_metadata(tokenizer: Any, pre: str, rows: int = ROWS) -> dict[str, Any]:
    """Return the metadata of a tokenizer; ids that it lacks are unused tokens, as llama.cpp writes them."""
    texts = {index: text for text, index in tokenizer.get_vocab().items()}
    added = tokenizer.get_added_tokens_decoder()
    tokens = [texts.get(index, f"[PAD{index}]") for index in range(rows)]
    kinds = [1 if index in texts else 5 for index in range(rows)]
    for index, token in added.items():
        kinds[index] = 3 if token.special else 4
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": [" ".join(pair) for pair in merges],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}",
    }


def model_metadata(model: Any) -> dict[str, Any]:
    """Return the metadata of a model of `transformers`."""
    config, kind = model.config, model.config.model_type
    found = {f"{kind}.{key}": getattr(config, name) for key, name in KEYS.items()}
    theta = config.rope_parameters["rope_theta"]
    return found | {
        f"{kind}.attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        f"{kind}.rope.freq_base": float(theta),
        f"{kind}.attention.key_length": config.head_dim,
        f"{kind}.attention.value_length": config.head_dim,
    }


def model_tensors(model: Any) -> dict[str, np.ndarray]:
    """Return the tensors of a model under llama.cpp's names, Llama's queries and keys in its order of rows."""
    config = model.config
    found: dict[str, np.ndarray] = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        stem, _, leaf = name.rpartition(".")
        weight = tensor.numpy()
        if stem in TOP:
            found[f"{TOP[stem]}.{leaf}"] = weight
            continue
        _, _, layer, part = stem.split(".", 3)
        if config.model_type == "llama" and part in ("self_attn.q_proj", "self_attn.k_proj"):
            heads = HEADS if part == "self_attn.q_proj" else KV_HEADS
            # As `LlamaModel.permute` of llama.cpp's converter: halves of a head become neighbours.
            halves = weight.reshape(heads, 2, HEAD_WIDTH // 2, -1)
            weight = halves.swapaxes(1, 2).reshape(weight.shape)
        found[f"blk.{layer}.{NAMES[part]}.{leaf}"] = weight
    return found


def write_gguf(
    path: Path,
    architecture: str,
    metadata: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    format_name: str = "F32",
    blocks: Mapping[str, tuple[np.ndarray, str]] | None = None,
) -> Path:
    """Write a GGUF file; matrices are quantized, and vectors stay in fp32.

    Args:
        path: the file.
        architecture: its `general.architecture`.
        metadata: its other keys.
        tensors: by name.
        format_name: number format of the matrices that are fp32.
        blocks: bytes of quantized tensors and their number format, in place of the tensors of these names.
    """
    from gguf import GGMLQuantizationType, GGUFWriter
    from gguf.quants import quantize

    writer = GGUFWriter(path, architecture)
    for key, value in metadata.items():
        match value:
            case bool():
                writer.add_bool(key, value)
            case int():
                writer.add_uint32(key, value)
            case float():
                writer.add_float32(key, value)
            case str():
                writer.add_string(key, value)
            case _:
                writer.add_array(key, value)
    for name, tensor in tensors.items():
        if blocks and name in blocks:
            data, kind_name = blocks[name]
            writer.add_tensor(name, data, raw_dtype=GGMLQuantizationType[kind_name])
            continue
        if tensor.ndim == 1 or tensor.dtype != np.float32:
            writer.add_tensor(name, np.ascontiguousarray(tensor))
            continue
        kind = GGMLQuantizationType[format_name]
        writer.add_tensor(name, quantize(np.ascontiguousarray(tensor), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def toy_gguf(path: Path, kind: str, pre: str = "qwen2", format_name: str = "F32") -> Any:
    """Write the GGUF file of a random model with a trained tokenizer, and return the model."""
    model = random_model(kind)
    metadata = model_metadata(model) | tokenizer_metadata(published_tokenizer(pre), pre)
    write_gguf(path, kind.lower(), metadata, model_tensors(model), format_name)
    return model
