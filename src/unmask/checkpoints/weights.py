"""The tensors of a checkpoint and the parameters they hold: strict reading, and writing.

A file's tensor is usually one parameter. Where a family stores projections fused, it is several
parameters concatenated along the rows; where it stores experts one by one, each is a slice of a stacked
parameter. Both follow from the family's names alone, for reading and for writing.
"""

from collections.abc import Collection, Mapping
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch
from huggingface_hub import split_state_dict_into_shards_factory
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from unmask.checkpoints.tensor_files import save_tensors
from unmask.models.families import family_named
from unmask.models.families.json_keys import Keys, read_json, write_json
from unmask.models.heads import code_ids, drawable_ids
from unmask.models.transformer import Model
from unmask.models.value_model import VALUE_HEAD, ValueModel

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# Number formats that are read, as headers and as configs spell them: quantized weights would need
# their scales.
FLOATING = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
ROTARY_TABLES = (".inv_freq", ".original_inv_freq", ".cos_cached", ".sin_cached")


class IndexKeys(Keys):
    """The keys of an index that are used."""

    weight_map: dict[str, str] | None = None


class Stored(NamedTuple):
    """A tensor of a checkpoint, by its header: its file, its shape and its number format there."""

    file: Path
    shape: tuple[int, ...]
    dtype: str


class Part(NamedTuple):
    """One of our tensors, or one expert's slice of it.

    Attributes:
        name: name of the parameter or buffer.
        expert: index into its first dimension; `None` for the whole tensor.
    """

    name: str
    expert: int | None = None

    def of(self, held: Mapping[str, Tensor]) -> Tensor:
        """Return the tensor, or the expert's view of it."""
        whole = held[self.name]
        return whole if self.expert is None else whole[self.expert]


def held_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers that a checkpoint holds, by our names; a tied head is left out."""
    is_kept = model.state_dict().keys()
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in is_kept}
    return {name: p.detach() for name, p in model.named_parameters()} | buffers


def stored_parts(model: Model | ValueModel) -> dict[str, list[Part]]:
    """Return the parts of each tensor of a checkpoint, in the order of its rows."""
    family = family_named(model.spec.family)
    own = {VALUE_HEAD: model.stored_head} if isinstance(model, ValueModel) else {}
    parts: dict[str, list[Part]] = {}
    for name, tensor in held_tensors(model).items():
        stored = own.get(name) or family.weight_name(name)
        for expert in range(len(tensor)) if "{e}" in stored else (None,):
            place = stored.replace("{e}", str(expert))
            parts.setdefault(place, []).append(Part(name, expert))
    return parts


def spare_names(model: Model | ValueModel) -> set[str]:
    """Return names that a checkpoint may hold in addition: a tied head, or the head of a critic's policy."""
    if isinstance(model, Model) and not model.spec.is_tied:
        return set()
    return {family_named(model.spec.family).weight_name("head.projection.weight")}


def _weight_files(directory: Path, single: str) -> tuple[list[Path], dict[str, str]]:
    """Return the safetensors files of a checkpoint, and the file that its index assigns each tensor to.

    Raises:
        ValueError: if there are none, or the index names one that is not there, or there are both
            one file and an index of others.
    """
    whole, index = directory / single, directory / INDEX
    if not index.is_file():
        if not whole.is_file():
            raise ValueError(
                f"{directory} has neither {single} nor {INDEX}; pickled weights are not read"
            )
        return [whole], {}
    assigned: dict[str, str] | None = read_json(index, IndexKeys).get("weight_map")
    if not assigned:
        raise ValueError(f"{index}: weight_map is missing or empty: names no file")
    names = sorted(set(assigned.values()))
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ValueError(
                f"{index} names {name!r}: must be a safetensors file in the same directory"
            )
        if not (directory / name).is_file():
            raise ValueError(f"{index} names {name}, which is not there")
    if whole.is_file() and names != [single]:
        raise ValueError(
            f"{directory} holds {single} and an {INDEX} of other files: remove the one that is stale"
        )
    return [directory / name for name in names], assigned


def open_tensors(file: Path) -> safe_open:
    """Map a safetensors file.

    Raises:
        ValueError: if it is truncated or no safetensors file.
    """
    try:
        return safe_open(file, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{file} is not a whole safetensors file: {error}") from error


def read_headers(directory: Path, single: str = WEIGHTS) -> dict[str, Stored]:
    """Return the tensors of a checkpoint, by name, from the headers of its files.

    Tables of rotary angles, which some checkpoints hold too, are left out: they follow from
    `config.json`.

    Args:
        directory: of the checkpoint.
        single: name of the file that holds all weights, where there is no index of several.

    Raises:
        ValueError: as `_weight_files`; or a file is broken, or it and the index disagree about which
            tensors it holds.
    """
    files, assigned = _weight_files(directory, single)
    found: dict[str, Stored] = {}
    for file in files:
        with open_tensors(file) as reader:
            for name in sorted(reader.keys()):
                if name.endswith(ROTARY_TABLES):
                    continue
                if assigned and assigned.get(name) != file.name:
                    raise ValueError(
                        f"{file}: holds tensor {name!r}, which {INDEX} assigns to "
                        f"{assigned.get(name, 'no file')}"
                    )
                header = reader.get_slice(name)
                found[name] = Stored(file, tuple(header.get_shape()), str(header.get_dtype()))
    for name, file in assigned.items():
        if name not in found and not name.endswith(ROTARY_TABLES):
            raise ValueError(
                f"{directory / INDEX}: assigns tensor {name!r} to {file}, which lacks it"
            )
    if not found:
        raise ValueError(f"{directory}: its safetensors files hold no tensors")
    return found


def check_tensors(
    model: Model | ValueModel, stored: Mapping[str, Stored], absent: Collection[str] = ()
) -> None:
    """Compare the files' headers with the parameters of a model, before any weight is read.

    A tied checkpoint may hold its head a second time; the embedding is used, as in the published
    code. A critic may be loaded from a policy, without its language head.

    Args:
        model: on the meta device.
        stored: result of `read_headers`.
        absent: tensors of the model that the files must not hold.

    Raises:
        ValueError: naming the tensors that are missing, unexpected, of another shape or not of a
            floating-point format, and their file.
    """
    moe = model.spec.moe
    # Before the experts are listed: there may be billions of them.
    if moe is not None and len(moe.layers) * moe.num_experts > len(stored):
        raise ValueError(
            f"config.json: num_experts = {moe.num_experts} in {len(moe.layers)} layers: the files hold "
            f"only {len(stored)} tensors"
        )
    held, wanted = held_tensors(model), dict[str, tuple[int, ...]]()
    for name, places in stored_parts(model).items():
        if name not in absent:
            parts = [part.of(held) for part in places]
            wanted[name] = (sum(map(len, parts)), *parts[0].shape[1:])
    check_headers(wanted, stored, spare_names(model))


def check_headers(
    wanted: Mapping[str, tuple[int, ...]],
    stored: Mapping[str, Stored],
    spare: Collection[str] = (),
) -> None:
    """Compare the files' headers with the names and shapes of the tensors that a model needs.

    Args:
        wanted: shape of each tensor.
        stored: result of `read_headers`.
        spare: names that the files may hold in addition.

    Raises:
        ValueError: as `check_tensors`.
    """
    problems: list[str] = []
    for name in sorted(stored.keys() - spare):
        file, shape, dtype = stored[name]
        if name not in wanted:
            problems.append(f"{file}: unexpected tensor {name!r}")
            continue
        if shape != wanted[name]:
            problems.append(
                f"{file}: tensor {name!r} has shape {shape}, config.json asks for {wanted[name]}"
            )
        if dtype not in FLOATING:
            problems.append(
                f"{file}: tensor {name!r} is stored as {dtype}: only {', '.join(FLOATING)} are read"
            )
    first, *others = {file for file, _, _ in stored.values()}
    where = first.parent if others else first
    missing = sorted(wanted.keys() - stored.keys())
    problems += [f"{where}: missing tensor {name!r}" for name in missing]
    if problems:
        more = f"\n... and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError("\n".join(problems[:5]) + more)


def fill(
    model: Model | ValueModel,
    stored_at: Mapping[str, Stored],
    device: torch.device,
    dtype: torch.dtype | None,
) -> None:
    """Load the weights of a model on the meta device, one tensor at a time.

    Buffers keep the number format of the file.
    """
    fill_parts(model, stored_parts(model), stored_at, device, dtype)
    if isinstance(model, Model):
        model.tie()
        model.head.drawable = drawable_ids(model.spec).to(device)
        model.head.codes = code_ids(model.spec).to(device)


def fill_parts(
    model: nn.Module,
    wanted: Mapping[str, list[Part]],
    stored_at: Mapping[str, Stored],
    device: torch.device,
    dtype: torch.dtype | None,
) -> None:
    """Load the wanted tensors of a checkpoint into the parts of a module that they hold, one at a time."""
    held = held_tensors(model)
    names = sorted(stored_at.keys() & wanted.keys(), key=lambda name: (stored_at[name].file, name))
    for file, members in groupby(names, lambda name: stored_at[name].file):
        with open_tensors(file) as reader:
            for name in members:
                stored = reader.get_tensor(name)
                heights = [len(part.of(held)) for part in wanted[name]]
                for part, piece in zip(wanted[name], stored.split(heights), strict=True):
                    _put(model, part, piece, device, dtype)


def _put(
    model: nn.Module, part: Part, piece: Tensor, device: torch.device, dtype: torch.dtype | None
) -> None:
    """Copy a piece of a mapped file into its place; a mapped tensor would change with its file.

    Raises:
        ValueError: if the experts of a stack have several number formats, and no common one is asked for.
    """
    path, _, leaf = part.name.rpartition(".")
    module = model.get_submodule(path)
    if leaf in dict(module.named_buffers(recurse=False)):
        module.register_buffer(leaf, piece.to(device=device, copy=True))
        return
    dtype = piece.dtype if dtype is None else dtype
    if part.expert is None:
        weight = piece.to(device=device, dtype=dtype, copy=True)
        is_trained = module.get_parameter(leaf).requires_grad
        module.register_parameter(leaf, nn.Parameter(weight, is_trained))
        return
    stacked = module.get_parameter(leaf)
    if stacked.is_meta:
        # Not `empty_like`: from the meta device it imports sympy, 33 MiB of it.
        stacked = nn.Parameter(torch.empty(stacked.shape, device=device, dtype=dtype))
        module.register_parameter(leaf, stacked)
    if stacked.dtype != dtype:
        raise ValueError(
            f"{part.name}: experts in {stacked.dtype} and in {dtype} cannot be stacked as they are; "
            "load them in one number format"
        )
    stacked.detach()[part.expert].copy_(piece)


def stored_tensors(model: Model | ValueModel, source: Path | None) -> dict[str, Tensor]:
    """Return the tensors a checkpoint of this model holds, by the checkpoint's names.

    Args:
        model: the model.
        source: checkpoint that the model was loaded from; a tied head is written twice if it is there.
    """
    held = held_tensors(model)
    tensors: dict[str, Tensor] = {}
    for name, parts in stored_parts(model).items():
        pieces = [part.of(held) for part in parts]
        tensors[name] = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
    spare = spare_names(model) if isinstance(model, Model) else set()
    for name in spare & stored_names(source):
        tensors[name] = held["backbone.embedding.weight"].clone()
    return tensors


def stored_names(directory: Path | None) -> set[str]:
    """Return the names of the tensors in a directory; none if it holds no weights."""
    if directory is None or not any((directory / name).is_file() for name in (WEIGHTS, INDEX)):
        return set()
    return set(read_headers(directory))


def require_value_head(directory: Path) -> Path:
    """Return the file of a checkpoint that holds its value head.

    Raises:
        ValueError: none does.
    """
    stored = read_headers(directory)
    if VALUE_HEAD not in stored:
        raise ValueError(
            f"{directory} has no value head ({VALUE_HEAD}): it is a policy; "
            "start a new head on its backbone with advantage.head = zero, or without advantage.head_path"
        )
    return stored[VALUE_HEAD].file


def write_tensors(tensors: dict[str, Tensor], directory: Path, max_shard_bytes: int) -> None:
    """Write tensors as one file, or as shards and their index; other weight files are removed."""
    # Not the variant for torch: it counts the experts of a stack, which share a storage, as one.
    plan = split_state_dict_into_shards_factory(
        tensors,
        get_storage_size=lambda tensor: tensor.nbytes,
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=max_shard_bytes,
    )
    for file, names in plan.filename_to_tensors.items():
        shard = {name: tensors[name].contiguous() for name in names}
        save_tensors(shard, directory / file)
    written = set(plan.filename_to_tensors)
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        write_json(directory / INDEX, index)
        written.add(INDEX)
    for file in directory.glob("model*.safetensors*"):
        if file.name not in written:
            file.unlink()
