"""Converts an autoregressive checkpoint to a diffusion checkpoint with the same weights.

A Qwen2, Qwen3 or Llama model becomes the starting point of a diffusion model by three changes. It
gets a *mask token*: the first id its tokenizer does not use, whose embedding (and row of the head,
where that is not tied) is the mean of all the others. Its *attention* becomes block-causal (`sdar`) or
full (`dream`). Its config states both. No other number changes: under the causal mask the result has
the logits of its source, which the tests check. It must be trained to be a diffusion model
(Gong et al., "Scaling Diffusion Language Models via Adaptation from Autoregressive Models", 2025).

`dream` predicts the token after each row, as its source did. `sdar` predicts the token at the row, which
it must learn; its published models started from Qwen3 that way.

Which results each target's published code can load:

| source | to `sdar` | to `dream` |
|---|---|---|
| Qwen2 (query, key, value biases) | only here: `attention_bias`, `qk_norm: false` | exact |
| Qwen3 (norms of queries and keys) | exact | only here: `qk_norm`; biases of zero |
| Llama (neither) | only here: `qk_norm: false` | exact: biases of zero |

*Only here* means that this package loads the result with the same numbers, and the family's published
code would not. A head width other than `hidden_size / num_attention_heads` makes `dream` one too.

A GGUF file of one of these models is unpacked first (`gguf_file.py`).

Weights are copied file by file from memory maps; only one embedding and one head are held in memory.
A tensor or a setting that the result cannot represent is refused by name.
"""

import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from unmask.checkpoints.checkpoint import (
    CONVERTED_FROM,
    copy_companions,
    find_checkpoint,
    read_spec,
)
from unmask.checkpoints.gguf_file import SUFFIX, unpack
from unmask.checkpoints.mask_token import MaskToken, choose_mask_token, write_mask_token
from unmask.checkpoints.memory import meta_model
from unmask.checkpoints.random_init import require_unused
from unmask.checkpoints.tensor_files import save_tensors
from unmask.checkpoints.weights import (
    INDEX,
    WEIGHTS,
    Stored,
    check_tensors,
    open_tensors,
    read_headers,
)
from unmask.models.families import families, family_named
from unmask.models.families.autoregressive import read_source_spec, source_of
from unmask.models.families.config_file import read_config
from unmask.models.families.family import Config
from unmask.models.families.json_keys import write_json
from unmask.models.spec import ModelSpec

# A target that is no family: a GGUF file is unpacked and stays autoregressive.
AUTOREGRESSIVE = "autoregressive"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
QKV = ("q_proj", "k_proj", "v_proj")
# Copied from the source's config.
KEPT_FIELDS = ("bos_token_id", "pad_token_id", "initializer_range")
# Rows of an embedding that are averaged at a time: the sum runs in fp64.
ROWS_AT_A_TIME = 8192


@dataclass(frozen=True, slots=True)
class Converted:
    """The result of `convert`.

    Attributes:
        spec: of the result, as `load_model` reads it.
        mask_text: the mask token; `None` where there is no tokenizer.
        num_appended: rows that embedding and head have more than in the source.
        only_here: the parts that the family's published code lacks; empty where that loads it.
    """

    spec: ModelSpec
    mask_text: str | None
    num_appended: int
    only_here: tuple[str, ...]


def convert(
    source: str | Path,
    destination: str | Path,
    to: str,
    block_size: int | None = None,
    mask_id: int | None = None,
    dtype: torch.dtype | None = None,
) -> Converted:
    """Write an autoregressive checkpoint as a diffusion checkpoint.

    Args:
        source: directory, hub id, or a GGUF file (`.gguf`).
        destination: directory that does not exist yet, or is empty. It appears when it is complete.
        to: a family with a `Family.conversion`.
        block_size: positions of a diffusion block, for a family with blocks; its own default when not
            given.
        mask_id: id of the mask token. By default the tokenizer's own mask token, else the first id
            it does not use. Must be given where there is no tokenizer.
        dtype: number format of the weights of a GGUF file, fp32 when not given; other sources keep
            theirs.

    Raises:
        ValueError: naming the file, key, tensor or argument that prevents it.
    """
    destination = Path(destination)
    require_unused(destination)
    if Path(source).suffix == SUFFIX:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".gguf.", dir=destination.parent) as unpacked:
            unpack(Path(source), Path(unpacked), dtype or torch.float32)
            return convert(unpacked, destination, to, block_size, mask_id)
    if dtype is not None:
        raise ValueError(f"dtype = {dtype}: goes with a GGUF file; other weights keep their format")
    conversion = family_named(to).conversion
    if conversion is None:
        targets = ", ".join(family.name for family in families() if family.conversion is not None)
        raise ValueError(
            f"to = {to!r}: must be one of {targets}, or {AUTOREGRESSIVE} for a GGUF file"
        )
    directory = find_checkpoint(source)
    config = read_config(directory)
    # For the model card of an export; a path on this machine means nothing to others.
    config[CONVERTED_FROM] = None if Path(source).is_dir() else str(source)
    kind = source_of(config, "CausalLM")
    before = read_source_spec(directory, config, kind, to)
    stored = read_headers(directory)
    check_tensors(meta_model(before), stored)
    mask = choose_mask_token(directory, before.vocab_size, mask_id, conversion.mask_text)
    rows = max(before.vocab_size, mask.id + 1)
    widened = replace(before, vocab_size=rows, num_drawable=rows, mask_id=mask.id)
    spec = conversion.convert_spec(widened, block_size)

    with _complete(destination) as partial:
        _write_files(directory, partial, config, spec, mask)
        _write_weights(stored, partial, before, spec, mask)
        found = read_spec(partial)  # as `load_model` reads it
        check_tensors(meta_model(found), read_headers(partial))
    unpublished = tuple(conversion.unpublished_parts(spec))
    return Converted(found, mask.text, rows - before.vocab_size, unpublished)


def unpack_gguf(
    source: str | Path, destination: str | Path, dtype: torch.dtype | None = None
) -> None:
    """Write a GGUF file as the autoregressive checkpoint that it was made from.

    Args:
        source: the file.
        destination: as in `convert`.
        dtype: number format of the weights; fp32 when not given.

    Raises:
        ValueError: as `convert`.
    """
    require_unused(Path(destination))
    if Path(source).suffix != SUFFIX:
        raise ValueError(
            f"to = {AUTOREGRESSIVE!r}: unpacks a GGUF file ({SUFFIX}), and {source} is none"
        )
    with _complete(Path(destination)) as partial:
        unpack(Path(source), partial, dtype or torch.float32)


@contextmanager
def _complete(destination: Path) -> Generator[Path, None, None]:
    """Yield a directory that becomes the destination when its content is complete."""
    whole = destination.resolve()
    partial = whole.with_name(f".{whole.name}.converting")
    shutil.rmtree(partial, ignore_errors=True)  # of a conversion that was interrupted
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial)
        raise
    partial.rename(whole)


def _write_files(
    source: Path, destination: Path, config: Config, spec: ModelSpec, mask: MaskToken
) -> None:
    """Write everything except the weights and code files, which belong to another model."""
    copy_companions(source, destination, has_code=False)
    if mask.text is not None:
        write_mask_token(destination, mask)
    written = family_named(spec.family).new_config(spec)
    written |= {key: config[key] for key in KEPT_FIELDS if key in config}
    if hub_id := config[CONVERTED_FROM]:
        written[CONVERTED_FROM] = hub_id
    if dtype := config.get("dtype") or config.get("torch_dtype"):
        written["torch_dtype"] = dtype
    write_json(destination / "config.json", written)


def _write_weights(
    stored: Mapping[str, Stored],
    destination: Path,
    before: ModelSpec,
    after: ModelSpec,
    mask: MaskToken,
) -> None:
    """Write every file of weights under its own name, and the index where there is one."""
    dropped = {HEAD} if before.is_tied else set[str]()  # a tied head that is stored as well
    weight_map: dict[str, str] = {}
    total = 0
    files = sorted({file for file, _, _ in stored.values()})
    for file in files:
        tensors: dict[str, Tensor] = {}
        with open_tensors(file) as reader:
            for name in sorted(stored.keys() - dropped):
                if stored[name].file == file:
                    tensors |= _converted(name, reader.get_tensor(name), before, after, mask)
            save_tensors(tensors, destination / file.name)
        weight_map |= dict.fromkeys(tensors, file.name)
        total += sum(tensor.nbytes for tensor in tensors.values())
    if files[0].name != WEIGHTS:
        index: dict[str, Any] = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_json(destination / INDEX, index)


def _converted(
    name: str, tensor: Tensor, before: ModelSpec, after: ModelSpec, mask: MaskToken
) -> Mapping[str, Tensor]:
    """Return the tensors of the result that replace one of the source; most stay the same."""
    if name in (EMBEDDING, HEAD):
        return {name: with_mask_row(tensor, after.vocab_size, mask)}
    module, _, _ = name.rpartition(".weight")
    if module.endswith(QKV) and after.has_qkv_bias and not before.has_qkv_bias:
        return {name: tensor, f"{module}.bias": tensor.new_zeros(len(tensor))}
    return {name: tensor}


def with_mask_row(rows: Tensor, num_rows: int, mask: MaskToken) -> Tensor:
    """Return an embedding or a head with the mask token's row set to the mean of the other tokens' rows.

    Args:
        rows: `(V, D)`; unchanged.
        num_rows: rows of the result, at least `V`; all new ones are that mean.
        mask: its id, and how many rows before it are tokens: spare rows, which were never
            trained, do not count.
    """
    known = rows[: mask.num_known]
    total = torch.zeros(rows.shape[1], dtype=torch.float64)
    for chunk in known.split(ROWS_AT_A_TIME):
        total += chunk.sum(0, dtype=torch.float64)
    count = len(known)
    if mask.id < count:
        total -= rows[mask.id]
        count -= 1
    mean = (total / count).to(rows.dtype)
    result = rows.new_empty((num_rows, rows.shape[1]))
    result[: len(rows)] = rows
    result[len(rows) :] = mean
    result[mask.id] = mean
    return result
