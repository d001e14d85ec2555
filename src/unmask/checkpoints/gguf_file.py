"""A GGUF file of llama.cpp, written as the Hugging Face checkpoint that it was made from.

One file holds metadata, tokenizer and tensors, most of them quantized. The metadata gives `config.json`,
the tokenizer its own files (`gguf_tokenizer.py`), and each tensor is dequantized by the `gguf` package
and written under its published name, one shard of weights in memory at a time. Llama's queries and keys
are stored with the rows of each head interleaved, as llama.cpp rotates pairs of neighbours; that order is
undone. The scaling of Llama 3's rotary angles is stored as factors only and is recognised by them.

Refused by name: other architectures, part of a split file, big-endian files, keys of the architecture
that are not read here, tensors of other names, and quantizations that the package cannot dequantize.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from huggingface_hub import split_state_dict_into_shards_factory
from torch import Tensor

from unmask.checkpoints.gguf_tokenizer import KEY as TOKENIZER
from unmask.checkpoints.gguf_tokenizer import write_gguf_tokenizer
from unmask.checkpoints.memory import meta_model
from unmask.checkpoints.tensor_files import save_tensors
from unmask.checkpoints.weights import INDEX, Stored, check_tensors
from unmask.models.families.autoregressive import read_source_spec, source_of
from unmask.models.families.family import rope_fields
from unmask.models.families.json_keys import shortened, write_json
from unmask.models.spec import RopeScaling
from unmask.models.transformer import scaled

if TYPE_CHECKING:
    from gguf import GGUFReader, ReaderTensor

SUFFIX = ".gguf"
SHARD_BYTES = 2 * 10**9
# Class of the published checkpoint, by the architecture of the file.
CLASSES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
# Keys of the config, by those below the architecture's name.
FIELDS = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.key_length": "head_dim",
    "rope.freq_base": "rope_theta",
}
# Read as well: they must agree with the others, or describe a rotary scaling.
CHECKED = ("attention.value_length", "rope.dimension_count")
SCALING = "rope.scaling.type"
IGNORED = ("vocab_size", "rope.scaling.finetuned")
NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    **{f"attn_{part}": f"self_attn.{part}_proj" for part in "qkv"},
    **{f"attn_{part}_norm": f"self_attn.{part}_norm" for part in "qk"},
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    **{f"ffn_{part}": f"mlp.{part}_proj" for part in ("gate", "up", "down")},
}
EMBEDDING, HEAD, ROPE_FACTORS = "token_embd.weight", "output.weight", "rope_freqs.weight"
PERMUTED = re.compile(r"blk\.\d+\.attn_([qk])\.weight")
# Llama 3.1 scales its angles by 8 and Llama 3.2 by 32; the other numbers are those of both.
LLAMA3 = RopeScaling(factor=8.0, low_factor=1.0, high_factor=4.0, original_length=8192)


def unpack(file: Path, directory: Path, dtype: torch.dtype) -> None:
    """Write a GGUF file as a Hugging Face checkpoint, its weights in one number format.

    Args:
        file: a whole GGUF file of a Llama, Qwen2 or Qwen3 model.
        directory: exists; config, tokenizer and weights are written into it.
        dtype: number format of every weight; `float32` holds each dequantized number exactly.

    Raises:
        ValueError: naming the file and the key or tensor that prevents it.
    """
    reader = open_gguf(file)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    try:
        metadata = {name: field.contents() for name, field in reader.fields.items()}
        config = _config(metadata, tensors) | {"torch_dtype": str(dtype).removeprefix("torch.")}
        named = _named(tensors.values())
        write_gguf_tokenizer(metadata, directory)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    spec = read_source_spec(file, config, source_of(config, "CausalLM"))
    shapes = {name: tuple(map(int, reversed(tensor.shape))) for name, tensor in named.items()}
    check_tensors(meta_model(spec), {n: Stored(file, s, "F32") for n, s in shapes.items()})
    write_json(directory / "config.json", config)
    _write_weights(named, config, directory, dtype)


def open_gguf(file: Path) -> "GGUFReader":
    """Map a GGUF file.

    Raises:
        ValueError: if the extra is not installed, or the file is missing, truncated, no GGUF file or part
            of a split one.
    """
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise ValueError(
            f"{file}: a GGUF file is read by the gguf package: pip install 'unmask[gguf]'"
        ) from error

    class WholeReader(GGUFReader):
        """A reader that refuses to read past the end, where the package's own returns fewer numbers."""

        def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
            numbers = super()._get(offset, dtype, count, override_order)
            if len(numbers) < count:
                raise ValueError(f"ends within the {count} numbers at byte {offset}")
            return numbers

    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    try:
        reader = WholeReader(file)
    except Exception as error:  # of a broken file: any
        raise ValueError(f"{file}: not a whole GGUF file: {error}") from error
    if reader.byte_order != "I":
        raise ValueError(f"{file}: its numbers are big-endian, which is not supported")
    parts = reader.fields.get("split.count")
    if parts is not None and parts.contents() > 1:
        raise ValueError(
            f"{file}: split.count = {parts.contents()}: it is one part of several; join them with "
            "llama.cpp's `llama-gguf-split --merge`"
        )
    return reader


def _config(metadata: Mapping[str, Any], tensors: Mapping[str, "ReaderTensor"]) -> dict[str, Any]:
    """Return the `config.json` of the checkpoint that a file was made from."""
    kind = metadata.get("general.architecture")
    if kind not in CLASSES:
        raise ValueError(
            f"general.architecture = {shortened(kind)}: must be one of {', '.join(CLASSES)}"
        )
    found = {k.removeprefix(f"{kind}."): v for k, v in metadata.items() if k.startswith(f"{kind}.")}
    if unknown := sorted(found.keys() - {*FIELDS, *CHECKED, SCALING, *IGNORED}):
        raise ValueError(f"{kind}.{unknown[0]} = {shortened(found[unknown[0]])}: is not supported")
    heads, width = (
        _number(found, kind, key) for key in ("attention.head_count", "embedding_length")
    )
    found = {"attention.head_count_kv": heads, "attention.key_length": width // heads, **found}
    if EMBEDDING not in tensors:
        raise ValueError(f"missing tensor {EMBEDDING!r}")
    for key in CHECKED:
        if found.get(key, found["attention.key_length"]) != found["attention.key_length"]:
            raise ValueError(f"{kind}.{key} = {found[key]}: must be the width of a head")
    config = {name: _number(found, kind, key) for key, name in FIELDS.items() if key in found}
    ids = {role: metadata.get(f"{TOKENIZER}{role}_token_id") for role in ("eos", "eot", "bos")}
    ends = list(dict.fromkeys(i for i in (ids["eos"], ids["eot"]) if i is not None))
    return {
        "architectures": [CLASSES[kind]],
        "model_type": kind,
        "rope_theta": 10000.0,
        **config,
        "rope_scaling": _rope_scaling(found, config, tensors),
        "hidden_act": "silu",
        "vocab_size": int(tensors[EMBEDDING].shape[-1]),  # of (D, V): innermost first
        "tie_word_embeddings": HEAD not in tensors,
        "bos_token_id": ids["bos"],
        "eos_token_id": ends[0] if len(ends) == 1 else ends or None,
    }


def _number(found: Mapping[str, Any], kind: str, key: str) -> Any:
    """Return a number of the metadata: a float by its shortest spelling, since files hold fp32."""
    value = found.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError(f"{kind}.{key} = {shortened(value)}: must be a positive number")
    return value if isinstance(value, int) else float(str(np.float32(value)))


def _rope_scaling(
    found: Mapping[str, Any], config: Mapping[str, Any], tensors: Mapping[str, "ReaderTensor"]
) -> dict[str, Any] | None:
    """Return the scaling of the rotary angles, from the factors that Llama 3 files hold."""
    if found.get(SCALING, "none") != "none":
        raise ValueError(f"{SCALING} = {shortened(found[SCALING])}: is not supported")
    if ROPE_FACTORS not in tensors:
        return None
    factors = torch.from_numpy(np.array(tensors[ROPE_FACTORS].data, np.float32))
    # theta^(-2i / E) for the pairs i of a head of width E
    frequencies = config["rope_theta"] ** (-torch.arange(len(factors)) / len(factors))
    scaling = replace(LLAMA3, factor=float(factors.max()))
    if not torch.allclose(frequencies / scaled(frequencies, scaling), factors, rtol=1e-4):
        raise ValueError(f"tensor {ROPE_FACTORS!r}: its factors are not those of a Llama 3 model")
    return rope_fields(scaling)


def _named(tensors: Iterable["ReaderTensor"]) -> dict[str, "ReaderTensor"]:
    """Return the tensors by their published names, except the factors of the rotary angles.

    Raises:
        ValueError: if no supported model has such a tensor, or it is in a number format that is not
            dequantized.
    """
    from gguf.quants import dequantize

    named: dict[str, ReaderTensor] = {}
    for tensor in tensors:
        if tensor.name == ROPE_FACTORS:
            continue
        found = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", tensor.name)
        if found is None or found[2] not in NAMES:
            raise ValueError(f"unexpected tensor {tensor.name!r}")
        layer = "" if found[1] is None else f"model.layers.{found[1]}."
        named[f"{layer}{NAMES[found[2]]}.{found[3]}"] = tensor
        try:
            dequantize(tensor.data[:1], tensor.tensor_type)
        except NotImplementedError:
            raise ValueError(
                f"tensor {tensor.name!r}: its quantization {tensor.tensor_type.name} is not supported"
            ) from None
    return named


def _write_weights(
    named: Mapping[str, "ReaderTensor"],
    config: Mapping[str, Any],
    directory: Path,
    dtype: torch.dtype,
) -> None:
    """Write the tensors in shards; one shard is in memory at a time."""
    plan = split_state_dict_into_shards_factory(
        {name: int(tensor.n_elements) * dtype.itemsize for name, tensor in named.items()},
        get_storage_size=lambda size: size,
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=SHARD_BYTES,
    )
    for file, names in plan.filename_to_tensors.items():
        shard = {name: _weight(named[name], config, dtype) for name in names}
        save_tensors(shard, directory / file)
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        write_json(directory / INDEX, index)


def _weight(tensor: "ReaderTensor", config: Mapping[str, Any], dtype: torch.dtype) -> Tensor:
    """Return a tensor dequantized, its rows in the published order."""
    from gguf.quants import dequantize

    # A copy: the file is mapped, and must not change with the tensor or the tensor with it.
    weight = torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type), np.float32))
    found = PERMUTED.fullmatch(tensor.name)
    if found is not None and config["model_type"] == "llama":
        heads = config["num_attention_heads" if found[1] == "q" else "num_key_value_heads"]
        pairs = weight.unflatten(0, (heads, -1, 2))  # (H, E / 2, 2, D): neighbours are rotated
        weight = pairs.transpose(1, 2).flatten(0, 2)  # (H * E, D): halves of a head are
    return weight.to(dtype).contiguous()
