"""Checkpoint directories in Hugging Face layout: read into a `Model` and written from one.

A directory is `config.json`, safetensors (one file, or shards and their index) and, usually,
tokenizer files. Reading is strict, and checks every header before it takes memory for a weight. The
model is built on the meta device and its tensors arrive one at a time, each copied out of the
mapped file: peak memory is that of the weights, and a file replaced later cannot change a model in
use. Writing keeps the source directory's config, so that an export loads here and in the family's
published code.

Pickled weights are refused, and no code in a directory is run. Writes are not atomic: `runs` writes to a
temporary directory and moves it into place.
"""

import shutil
import warnings
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from unmask.checkpoints.tokenizer import has_tokenizer
from unmask.checkpoints.tokenizer_files import KnownIds, read_known_ids
from unmask.checkpoints.weights import (
    FLOATING,
    INDEX,
    check_tensors,
    fill,
    read_headers,
    require_value_head,
    stored_tensors,
    write_tensors,
)
from unmask.models.families import family_named, family_of, imported_name
from unmask.models.families.config_file import read_config, spec_of_config
from unmask.models.families.family import Family, token_ids
from unmask.models.families.json_keys import Keys, TokenIds, read_optional, shortened, write_json
from unmask.models.heads import ValueHead
from unmask.models.lora import merge_lora
from unmask.models.spec import ModelSpec
from unmask.models.transformer import Model
from unmask.models.value_model import VALUE_HEAD, ValueModel

M = TypeVar("M", Model, ValueModel)
DType = torch.dtype | Literal["auto"] | None

# Files that an export copies from its source, byte for byte.
COMPANIONS = (
    "*.py",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template*",
)
MAKERS = (
    "give the folder of a published checkpoint or of a run's model/, or make one with `unmask init` or "
    "`unmask convert`"
)
DOWNLOADS = (*COMPANIONS, "config.json", "*.safetensors", INDEX, "README.md")
# Key of `config.json` that names the model on the hub that `convert` read.
CONVERTED_FROM = "converted_from"


class GenerationKeys(Keys):
    """The keys of `generation_config.json` that are used; its sampling parameters are not."""

    eos_token_id: TokenIds = None


def load_model(
    path_or_hub_id: str | Path,
    device: str | torch.device = "cpu",
    dtype: DType = torch.float32,
    mask_id: int | None = None,
    block_size: int | None = None,
    family: str | None = None,
) -> Model:
    """Load a checkpoint.

    Args:
        path_or_hub_id: directory, or hub id of a model.
        device: device of the weights.
        dtype: number format in memory; `None` keeps each tensor's own, `auto` is the one
            `config.json` states.
        mask_id: mask token id; by default from `config.json`, else the tokenizer, else the family.
        block_size: positions per diffusion block; by default from `config.json`, else the family.
        family: name or `module:OBJECT` of the family; by default the one of this package that
            `config.json` names.

    Raises:
        ValueError: naming the file, key or tensor that is missing, unexpected, of the wrong shape
            or unsupported.
    """
    directory = find_checkpoint(path_or_hub_id)
    spec = read_spec(directory, mask_id, block_size, family)
    return load_built(lambda: Model(spec), directory, device, dtype)


def load_built(
    build: Callable[[], M],
    directory: Path,
    device: str | torch.device,
    dtype: DType,
    absent: Collection[str] = (),
) -> M:
    """Return a model, built on the meta device, with the weights of a directory except those in `absent`."""
    with torch.device("meta"):
        model = build()
    stored = read_headers(directory)
    check_tensors(model, stored, absent)
    if dtype == "auto":
        dtype = stated_dtype(read_config(directory))
    fill(model, stored, torch.device(device), dtype)
    model.source = directory
    return model


def load_value_model(
    path_or_hub_id: str | Path,
    device: str | torch.device = "cpu",
    dtype: DType = torch.float32,
    head: Literal["zero", "stored"] = "zero",
    like: ModelSpec | None = None,
) -> ValueModel:
    """Load a critic: the backbone of a checkpoint, and a value head.

    Args:
        path_or_hub_id: a policy, or a critic that `save_model` wrote.
        device: device of the weights.
        dtype: number format in memory, as in `load_model`.
        head: `zero` starts a new head on a policy's backbone, `stored` takes the checkpoint's.
        like: spec of the policy, for mask id and block size.

    Raises:
        ValueError: as `load_model`, and if there is no value head to load, or one that would be
            dropped.
    """
    directory = find_checkpoint(path_or_hub_id)
    if like is None:
        spec = read_spec(directory)
    else:
        spec = read_spec(directory, like.mask_id, like.block_size, imported_name(like.family))
    if head == "stored":
        require_value_head(directory)
    has_head = VALUE_HEAD in read_headers(directory)
    if head == "zero" and has_head:
        raise ValueError(
            f"{directory} has a value head ({VALUE_HEAD}) already: it is a critic; "
            "continue it with advantage.head = stored, or name a policy in advantage.path"
        )
    absent = () if has_head else (VALUE_HEAD,)
    model = load_built(lambda: ValueModel(spec), directory, device, dtype, absent)
    if not has_head:
        model.value_head = ValueHead(spec).to(model.backbone.embedding.weight)
    return model


def find_checkpoint(path_or_hub_id: str | Path) -> Path:
    """Return the directory of a checkpoint, downloaded from the hub if it is not a local one.

    Raises:
        ValueError: if it is neither a directory nor a model that the hub has, or is the directory of a
            run.
    """
    directory = Path(path_or_hub_id)
    if (directory / "model" / "config.json").is_file():
        raise ValueError(f"{directory} is a run; its model is {directory / 'model'}")
    if directory.is_dir():
        return directory
    if str(path_or_hub_id).startswith(("/", "./", "../")):
        raise ValueError(f"model.path = {directory}: no such directory; {MAKERS}")
    # Imported here: its HTTP client takes 8 MiB, which a directory does not need.
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(path_or_hub_id), allow_patterns=list(DOWNLOADS)))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"model.path = {path_or_hub_id}: not a directory, and the hub did not give it ({MAKERS}): "
            f"{' '.join(str(error).split())}"
        ) from error


def read_spec(
    directory: str | Path,
    mask_id: int | None = None,
    block_size: int | None = None,
    family: str | None = None,
) -> ModelSpec:
    """Read a directory's spec: `config.json`, `generation_config.json` and the tokenizer files.

    Args:
        directory: the checkpoint.
        mask_id: takes precedence over the files.
        block_size: takes precedence over the files.
        family: as in `load_model`.
    """
    directory = Path(directory)
    config = read_config(directory)
    spec = spec_of_config(family_of(config, family).read_spec, config, directory)
    if block_size is not None and block_size < 1:
        raise ValueError(f"block_size = {block_size}: must be at least 1")
    known = read_known_ids(directory) if has_tokenizer(directory) else None
    num_known = spec.vocab_size if known is None else known.num_tokens
    return replace(
        spec,
        mask_id=choose_mask_id(mask_id, spec, known),
        block_size=block_size or spec.block_size,
        num_drawable=min(num_known, spec.num_drawable),
        eos_ids=find_eos_ids(directory, spec, known),
    )


def choose_mask_id(given: int | None, spec: ModelSpec, known: KnownIds | None) -> int | None:
    """Return the caller's mask id, else the config's, else the tokenizer's, else the default.

    A default outside the vocabulary is dropped with a warning.

    Raises:
        ValueError: if the id chosen was stated, and lies outside the vocabulary.
    """
    stated = {
        "mask_id": given,
        "config.json: the mask token id": spec.mask_id,
        "the tokenizer's mask token id": None if known is None else known.mask_token_id,
    }
    for origin, mask_id in stated.items():
        if mask_id is None:
            continue
        if not 0 <= mask_id < spec.vocab_size:
            raise ValueError(
                f"{origin} = {mask_id}: outside the {spec.vocab_size} ids of the model"
            )
        return mask_id
    default = family_named(spec.family).default_mask_id
    if default < spec.vocab_size:
        return default
    warnings.warn(
        f"no mask id: neither config.json nor the tokenizer names one, and {default}, the default "
        f"of {spec.family}, is outside the {spec.vocab_size} ids of the model",
        stacklevel=4,
    )
    return None


def find_eos_ids(directory: Path, spec: ModelSpec, known: KnownIds | None) -> tuple[int, ...]:
    """Return the ids that end a response: those of both configs, else the tokenizer's."""
    generation = read_optional(directory / "generation_config.json", GenerationKeys)
    ids = token_ids(generation.get("eos_token_id")) + spec.eos_ids
    if not ids and known is not None:
        ids = token_ids(known.eos_token_id)
    return tuple(dict.fromkeys(ids))


def stated_dtype(config: dict[str, Any]) -> torch.dtype | None:
    """Return the number format a config states, under its old key or its new one."""
    name = config.get("dtype") or config.get("torch_dtype")
    if name is None:
        return None
    if name not in FLOATING.values():
        raise ValueError(
            f"config.json: dtype = {shortened(name)}: must be one of {', '.join(FLOATING.values())}"
        )
    return getattr(torch, name)


def save_model(
    model: Model | ValueModel,
    directory: str | Path,
    source: str | Path | None = None,
    max_shard_bytes: int = 5 * 10**9,
) -> None:
    """Write a checkpoint directory.

    Args:
        model: its weights are written in their number format, adapters merged into them; of a critic,
            backbone and value head.
        directory: made if it is not there; weights of an earlier checkpoint in it are replaced.
        source: directory whose config, tokenizer, generation and code files are kept; by default
            the one the model was loaded from. A source without `config.json`, or none, gives the
            family's own config.
        max_shard_bytes: larger weights are split into shards with an index.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    model = merge_lora(model)
    source = model.source if source is None else Path(source)
    family = family_named(model.spec.family)
    if source is not None and (source / "config.json").is_file():
        config = restate(source, model, family)
    else:
        config = family.new_config(model.spec) | {"torch_dtype": dtype_name(model)}
    write_json(directory / "config.json", config)
    if source is not None and source.resolve() != directory.resolve():
        copy_companions(source, directory)
    write_tensors(stored_tensors(model, source), directory, max_shard_bytes)


def copy_companions(source: Path, destination: Path, has_code: bool = True) -> None:
    """Copy the tokenizer, generation and, if asked for, code files of a checkpoint."""
    for file in (file for pattern in COMPANIONS for file in source.glob(pattern)):
        if file.is_file() and (has_code or file.suffix != ".py"):
            shutil.copyfile(file, destination / file.name)


def dtype_name(model: Model | ValueModel) -> str:
    """Return the name of the model's number format in `config.json`."""
    return str(model.dtype).removeprefix("torch.")


def restate(source: Path, model: Model | ValueModel, family: Family) -> dict[str, Any]:
    """Return a source's config with the fields updated that differ in the model.

    These are the number format, and a block size or mask id that the caller gave. All other fields,
    unknown ones included, are kept.
    """
    config = read_config(source)
    stored = family.read_spec(config)
    if stated_dtype(config) not in (None, model.dtype):
        config["dtype" if config.get("dtype") else "torch_dtype"] = dtype_name(model)
    if family.block_key is not None and model.spec.block_size != stored.block_size:
        config[family.block_key] = model.spec.block_size
    known = read_known_ids(source) if has_tokenizer(source) else None
    ids = (stored.mask_id, known and known.mask_token_id, family.default_mask_id)
    found = next(mask_id for mask_id in ids if mask_id is not None)
    if model.spec.mask_id not in (None, found):
        config[family.mask_key] = model.spec.mask_id
    return config
