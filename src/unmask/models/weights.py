"""The tensors of a checkpoint: which of our parameters each one holds, read strictly and written back.

A file's tensor is usually one parameter. Where a family stores projections fused, it is several of
ours one below the other; where it stores experts one by one, each is a slice of our stacked
parameter. Both follow from the family's names alone, for reading and for writing.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import split_state_dict_into_shards_factory
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from unmask.models.families import family_named
from unmask.models.heads import drawable_ids
from unmask.models.json_object import read_json, write_json
from unmask.models.tensor_files import save_tensors
from unmask.models.transformer import Model
from unmask.models.value_model import VALUE_HEAD, ValueModel

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class Part:
    """One of our tensors, or one expert's slice of it.

    Attributes:
        name: of the parameter or buffer.
        expert: index into its first dimension; `None` for the whole of it.
    """

    name: str
    expert: int | None = None

    def of(self, held: Mapping[str, Tensor]) -> Tensor:
        """Return the tensor, or the expert's view of it."""
        whole = held[self.name]
        return whole if self.expert is None else whole[self.expert]


def held_tensors(model: Model | ValueModel) -> dict[str, Tensor]:
    """Return the parameters and buffers that a checkpoint holds, by our names; a tied head is left out."""
    is_kept = model.state_dict().keys()
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in is_kept}
    return {name: p.detach() for name, p in model.named_parameters()} | buffers


def stored_parts(model: Model | ValueModel) -> dict[str, list[Part]]:
    """Return what each tensor of a checkpoint holds, from top to bottom."""
    family = family_named(model.spec.family)
    parts: dict[str, list[Part]] = {}
    for name, tensor in held_tensors(model).items():
        stored = (
            model.stored_head
            if isinstance(model, ValueModel) and name == VALUE_HEAD
            else family.weight_name(name)
        )
        if "{e}" in stored:
            for expert in range(len(tensor)):
                parts[stored.replace("{e}", str(expert))] = [Part(name, expert)]
        else:
            parts.setdefault(stored, []).append(Part(name))
    return parts


def spare_names(model: Model | ValueModel) -> set[str]:
    """Return the names of tensors a checkpoint may hold besides the model's: a tied head, or a critic's policy's."""
    if isinstance(model, Model) and not model.spec.is_tied:
        return set()
    return {family_named(model.spec.family).weight_name("head.projection.weight")}


def weight_files(directory: Path) -> list[Path]:
    """Return the safetensors files of a checkpoint directory.

    Raises:
        ValueError: if there are none, or the index names one that is not there.
    """
    if (directory / WEIGHTS).is_file():
        return [directory / WEIGHTS]
    if not (directory / INDEX).is_file():
        raise ValueError(
            f"{directory} has neither {WEIGHTS} nor {INDEX}; pickled weights are not read"
        )
    weight_map = read_json(directory / INDEX).get("weight_map", {})
    files = [directory / name for name in sorted(set(weight_map.values()))]
    for file in files:
        if not file.is_file():
            raise ValueError(f"{directory / INDEX} names {file.name}, which is not there")
    return files


def open_tensors(file: Path) -> safe_open:
    """Map a safetensors file.

    Raises:
        ValueError: if it is truncated or no safetensors file.
    """
    try:
        return safe_open(file, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{file} is not a whole safetensors file: {error}") from error


def check_tensors(
    model: Model | ValueModel, files: list[Path], absent: Collection[str] = ()
) -> None:
    """Compare the files' headers with the parameters of a model, before any weight is read.

    A tied checkpoint may hold its head a second time; the embedding counts, as in the published
    code. A critic may come from a policy, whose language head it leaves there.

    Args:
        model: on the meta device, as yet.
        files: safetensors files.
        absent: tensors of the model that the files must not hold.

    Raises:
        ValueError: naming the tensors that are missing, unexpected or of another shape, and their
            file.
    """
    held = held_tensors(model)
    wanted = {name: p for name, p in stored_parts(model).items() if name not in absent}
    ignored = spare_names(model)
    problems, found = [], set()
    for file in files:
        with open_tensors(file) as reader:
            for name in sorted(set(reader.keys()) - ignored):
                if name not in wanted:
                    problems.append(f"{file}: unexpected tensor {name!r}")
                    continue
                found.add(name)
                shape = tuple(reader.get_slice(name).get_shape())
                expected = _stored_shape([part.of(held) for part in wanted[name]])
                if shape != expected:
                    problems.append(
                        f"{file}: tensor {name!r} has shape {shape}, config.json asks for {expected}"
                    )
    where = files[0] if len(files) == 1 else files[0].parent
    problems += [f"{where}: missing tensor {name!r}" for name in sorted(set(wanted) - found)]
    if problems:
        more = f"\n... and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError("\n".join(problems[:5]) + more)


def _stored_shape(parts: list[Tensor]) -> tuple[int, ...]:
    return (sum(part.shape[0] for part in parts), *parts[0].shape[1:])


def fill(
    model: Model | ValueModel, files: list[Path], device: torch.device, dtype: torch.dtype | None
) -> None:
    """Give a model built on the meta device its weights, one tensor at a time.

    Buffers keep the number format of the file.
    """
    wanted, held = stored_parts(model), held_tensors(model)
    for file in files:
        with open_tensors(file) as reader:
            for name in sorted(set(reader.keys()) & set(wanted)):
                stored = reader.get_tensor(name)
                heights = [len(part.of(held)) for part in wanted[name]]
                for part, piece in zip(wanted[name], stored.split(heights), strict=True):
                    _put(model, part, piece, device, dtype)
    if isinstance(model, Model):
        model.tie()
        model.head.drawable = drawable_ids(model.spec).to(device)


def _put(
    model: nn.Module, part: Part, piece: Tensor, device: torch.device, dtype: torch.dtype | None
) -> None:
    """Copy a piece of a mapped file into its place; a mapped tensor would change with its file.

    Raises:
        ValueError: if the experts of a stack come in several number formats, and are to keep them.
    """
    path, _, leaf = part.name.rpartition(".")
    module = model.get_submodule(path)
    if leaf in dict(module.named_buffers(recurse=False)):
        module.register_buffer(leaf, piece.to(device=device, copy=True))
        return
    dtype = piece.dtype if dtype is None else dtype
    if part.expert is None:
        weight = piece.to(device=device, dtype=dtype, copy=True)
        module.register_parameter(leaf, nn.Parameter(weight))
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
        model: whose tensors.
        source: a checkpoint the model came from; where that holds a tied head twice, so does this.
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
    names: set[str] = set()
    for file in weight_files(directory):
        with open_tensors(file) as reader:
            names |= set(reader.keys())
    return names


def require_value_head(directory: Path) -> Path:
    """Return the file of a checkpoint that holds its value head.

    Raises:
        ValueError: none does.
    """
    for file in weight_files(directory):
        with open_tensors(file) as reader:
            if VALUE_HEAD in reader.keys():  # noqa: SIM118 (no mapping, only a method of that name)
                return file
    raise ValueError(
        f"{directory} has no value head ({VALUE_HEAD}): it is a policy; "
        "start a new head on its backbone with value.head = zero"
    )


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
        write_json(
            directory / INDEX,
            {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename},
        )
        written.add(INDEX)
    for file in directory.glob("model*.safetensors*"):
        if file.name not in written:
            file.unlink()
