"""LoRA adapters in the files of `peft`, under the checkpoint's module names.

`peft` loads them on the published model, and adapters that `peft` trained on it are read here. Where a
family stores projections fused (LLaDA2's queries, keys and values), the file holds one adapter of rank
n r: the n matrices A stacked, the matrices B along the diagonal. That is exactly the same map, and needs
all n of them; `alpha_pattern` and `rank_pattern` state its rank and scale. When read, an adapter of that
shape is split again; any other fused one gives each part all of A and the part's own rows of B.

Experts are written one by one, as checkpoints store them; `peft` stacks them where the model does. They
are read in that form and in the stacked one of `target_parameters`.

Options of `peft` beyond plain LoRA are refused by name. `task_type` is null: peft's class for causal
language models asks for a method that not every published diffusion model has.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from unmask.checkpoints.tensor_files import save_tensors
from unmask.checkpoints.weights import FLOATING, open_tensors, stored_parts
from unmask.models.families.json_keys import Keys, Size, read_json, shortened, write_json
from unmask.models.lora import (
    LoRALinear,
    Projection,
    adapters,
    plain_projections,
    stored_projections,
)
from unmask.models.transformer import Model
from unmask.models.value_model import ValueModel

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
# Options of peft that change the computation: each must be absent or empty.
UNSUPPORTED = (
    *("alora_invocation_tokens", "arrow_config", "fan_in_fan_out", "kasa_config"),
    *("layer_replication", "lora_bias", "modules_to_save", "monteclora_config"),
    *("trainable_token_indices", "use_bdlora", "use_dora", "use_qalora", "use_rslora"),
    "velora_config",
)

# Parameters of experts that transformers stacks, in the order of the module, and our projections in each.
STACKED = {"gate_up_proj": ("gate", "up"), "down_proj": ("down",)}

Alpha = Annotated[float, Field(gt=0, le=1e6)]
# Suffixes of module names with anchors and alternatives. Other regular expressions could take exponential time.
ModulePattern = Annotated[str, Field(pattern=r"^[\w.^$|-]+$")]


class AdapterKeys(Keys):
    """The keys of `adapter_config.json` that give ranks, scales and stacked targets."""

    r: Size
    lora_alpha: Alpha
    rank_pattern: dict[ModulePattern, Size] | None = None
    alpha_pattern: dict[ModulePattern, Alpha] | None = None
    target_parameters: list[str] | None = None


def save_adapter(model: Model | ValueModel, directory: str | Path, base: str | None = None) -> None:
    """Write the adapters as `peft` does.

    Args:
        model: with adapters.
        directory: made if it is not there.
        base: name of the base model in the file; by default the directory it was loaded from.

    Raises:
        ValueError: if there are none.
    """
    found = adapters(model)
    if not found:
        raise ValueError("the model has no adapters to save: add_lora first")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    source = None if model.source is None else str(model.source)
    tensors: dict[str, Tensor] = {}
    shapes: dict[str, tuple[int, float]] = {}
    for stored, parts in stored_projections(model).items():
        pieces = [found[part] for part in parts if part in found]
        for name, lora_a, lora_b in _stored_matrices(stored, pieces):
            tensors[f"{PREFIX}{name}.lora_A.weight"] = lora_a.contiguous()
            tensors[f"{PREFIX}{name}.lora_B.weight"] = lora_b.contiguous()
            shapes[name] = (len(lora_a), sum(piece.alpha for piece in pieces))
    save_tensors(tensors, directory / TENSORS)
    write_json(directory / CONFIG, _peft_config(model, shapes, base or source))


def load_adapter(model: Model | ValueModel, directory: str | Path) -> None:
    """Freeze a model, in place, and put the adapters of a `peft` directory on it.

    The adapter's dropout, if it was trained with any, is not applied here.

    Args:
        model: without adapters.
        directory: holds `adapter_config.json` and `adapter_model.safetensors`.

    Raises:
        ValueError: naming the option that is not supported, or the tensor that is missing, unexpected or of
            the wrong shape; the model is then untouched.
    """
    file = _read_file(Path(directory))
    found = plain_projections(model)
    placed: dict[str, LoRALinear] = {}
    for stored, parts in stored_projections(model).items():
        linears = [found[part] for part in parts]
        if "{e}" in stored:
            read = [_read_experts(file, stored, parts[0], linears[0])]
        else:
            read = _read_parts(file, stored, linears)
        placed |= {name: adapter for name, adapter in zip(parts, read, strict=True) if adapter}
    for module in sorted(file.matrices.keys() - file.used):
        raise ValueError(f"{file.path}: unexpected tensor '{PREFIX}{module}.lora_A.weight'")
    model.requires_grad_(False)
    for name, adapter in placed.items():
        model.set_submodule(name, adapter)


class _File(NamedTuple):
    """An adapter as it is stored.

    Attributes:
        path: of the tensors.
        config: `adapter_config.json`.
        matrices: A and B of each of the checkpoint's modules.
        used: modules that belong to a projection of the model, filled while reading.
    """

    path: Path
    config: Mapping[str, Any]
    matrices: Mapping[str, tuple[Tensor, Tensor]]
    used: set[str]


class _Pair(NamedTuple):
    """The two matrices of a stored module and the numerator of their scale."""

    lora_a: Tensor
    lora_b: Tensor
    alpha: float


def _stored_matrices(
    stored: str, pieces: Sequence[LoRALinear]
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield name, A and B of each module of a checkpoint that holds the adapted projections `pieces`."""
    if not pieces:
        return
    if "{e}" in stored:
        (piece,) = pieces
        pairs = zip(piece.lora_a.detach(), piece.lora_b.detach(), strict=True)
        for expert, (lora_a, lora_b) in enumerate(pairs):
            yield stored.replace("{e}", str(expert)), lora_a, lora_b
        return
    lora_a = torch.cat([piece.lora_a.detach() for piece in pieces])
    yield stored, lora_a, torch.block_diag(*(piece.lora_b.detach() for piece in pieces))


def _peft_config(
    model: Model | ValueModel, shapes: Mapping[str, tuple[int, float]], base: str | None
) -> dict[str, Any]:
    """Return an `adapter_config.json`: `shapes` are rank and alpha of the checkpoint's modules."""
    # Fused tensors are the exception, so the most frequent rank and alpha go into the plain fields.
    ((rank, alpha), _), *_ = Counter(shapes.values()).most_common(1)
    stored = {name.removesuffix(".weight") for name in stored_parts(model)}
    return {
        "alpha_pattern": {n: _plain(a) for n, (_, a) in shapes.items() if a != alpha},
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": _plain(alpha),
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": {n: r for n, (r, _) in shapes.items() if r != rank},
        "target_modules": _shortest_suffixes(shapes.keys(), stored),
        "task_type": None,
        "use_dora": False,
        "use_rslora": False,
    }


def _plain(alpha: float) -> float | int:
    """Return an alpha without rounding errors: 3 x 0.7 / 3 must be 0.7 again, to the bit."""
    tidy = float(f"{alpha:.14g}")
    return int(tidy) if tidy.is_integer() else tidy


def _shortest_suffixes(adapted: Iterable[str], stored: set[str]) -> list[str]:
    """Return suffixes of module names that match the adapted modules and no other of the checkpoint.

    peft adapts every module whose name ends in a target: LLaDA's `ff_out` is also its head, `gate_proj`
    is also in every expert.
    """
    wanted = {tuple(name.split(".")) for name in adapted}
    there = {tuple(name.split(".")) for name in stored}
    for count in range(1, min(map(len, wanted))):
        ends = {parts[-count:] for parts in wanted}
        if {parts for parts in there if parts[-count:] in ends} == wanted:
            return sorted(".".join(end) for end in ends)
    return sorted(".".join(parts) for parts in wanted)


def _read_config(path: Path) -> dict[str, Any]:
    """Read an `adapter_config.json`.

    Raises:
        ValueError: naming the option that is not supported.
    """
    config = read_json(path, AdapterKeys)
    needed: dict[str, tuple[object, ...]] = {
        "peft_type": ("LORA",),
        "bias": ("none", None),
        # Other initialisations (PiSSA, OLoRA ...) change the frozen weights.
        "init_lora_weights": (True, False, None, "gaussian"),
    }
    for key, fine in needed.items():
        if config.get(key) not in fine:
            stated = shortened(config.get(key))
            raise ValueError(f"{path}: {key} = {stated}: only {fine[0]!r} is supported")
    for key in UNSUPPORTED:
        if config.get(key):
            raise ValueError(f"{path}: {key} = {shortened(config[key])} is not supported")
    return config


def _read_file(directory: Path) -> _File:
    """Read an adapter directory.

    Raises:
        ValueError: naming the option that is not supported, or the tensor that is missing or unexpected.
    """
    config, path = _read_config(directory / CONFIG), directory / TENSORS
    if not path.is_file():
        raise ValueError(f"{path}: no such file; pickled adapters are not read")
    pattern = re.compile(rf"{re.escape(PREFIX)}(.+)\.lora_([AB])\.weight")
    halves: dict[str, dict[str, Tensor]] = {}
    with open_tensors(path) as reader:
        for name in reader.keys():  # noqa: SIM118 (no mapping, only a method of that name)
            match = pattern.fullmatch(name)
            if match is None:
                raise ValueError(f"{path}: unexpected tensor {name!r}")
            if (dtype := reader.get_slice(name).get_dtype()) not in FLOATING:
                raise ValueError(
                    f"{path}: tensor {name!r} is stored as {dtype}: only {', '.join(FLOATING)} are read"
                )
            # Cloned: a mapped tensor would change with its file.
            halves.setdefault(match[1], {})[match[2]] = reader.get_tensor(name).clone()
    for name, held in halves.items():
        for letter in {"A", "B"} - held.keys():
            raise ValueError(f"{path}: missing tensor '{PREFIX}{name}.lora_{letter}.weight'")
    if not halves:
        raise ValueError(f"{path}: holds no adapter")
    matrices = {name: (held["A"], held["B"]) for name, held in sorted(halves.items())}
    return _File(path, config, matrices, set())


def _read_pair(
    file: _File, module: str, width: int, height: int, called: str | None = None, count: int = 1
) -> _Pair | None:
    """Return the adapter of a module; `None` if the file has none.

    Args:
        file: the adapter.
        module: name of the module in the file.
        width: inputs of the module.
        height: outputs of the module.
        called: name that rank and alpha patterns match, if not the module's.
        count: experts whose matrices are stacked in it.

    Raises:
        ValueError: if its matrices do not have the shapes that config and model ask for.
    """
    if module not in file.matrices:
        return None
    file.used.add(module)
    lora_a, lora_b = file.matrices[module]
    config, called = file.config, called or module
    rank = count * _of_pattern(config.get("rank_pattern"), called, config["r"])
    expected = (rank, width), (height, rank)
    shapes = tuple(lora_a.shape), tuple(lora_b.shape)
    if shapes != expected:
        raise ValueError(
            f"{file.path}: the adapter of {module} has shapes {shapes}, {CONFIG} and the model ask for "
            f"{expected}"
        )
    alpha = _of_pattern(config.get("alpha_pattern"), called, config["lora_alpha"])
    return _Pair(lora_a, lora_b, float(alpha))


def _of_pattern(pattern: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """Return the value of the first key that matches the end of a module's name, as peft does."""
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default


def _read_parts(
    file: _File, stored: str, linears: Sequence[Projection]
) -> Sequence[LoRALinear | None]:
    """Return the adapter of each projection that a stored module holds."""
    heights = [len(linear.weight) for linear in linears]
    pair = _read_pair(file, stored, linears[0].weight.shape[1], sum(heights))
    if pair is None:
        return [None] * len(linears)
    return [
        LoRALinear(linear, a, b, _plain(pair.alpha * len(a) / len(pair.lora_a)))
        for linear, (a, b) in zip(linears, _split(pair, heights), strict=True)
    ]


def _split(pair: _Pair, heights: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """Return the A and B of each of the parts of a fused adapter: see the module's docstring."""
    rows = pair.lora_b.split(list(heights))
    rank, rest = divmod(len(pair.lora_a), len(heights))
    if rest == 0:
        parts = pair.lora_a.split(rank)
        blocks = [row[:, i * rank : (i + 1) * rank] for i, row in enumerate(rows)]
        if torch.equal(torch.block_diag(*blocks), pair.lora_b):
            return list(zip(parts, blocks, strict=True))
    return [(pair.lora_a, row) for row in rows]


def _read_experts(file: _File, stored: str, part: str, linear: Projection) -> LoRALinear | None:
    """Return the adapter of a projection of all experts, stored one by one or stacked.

    Raises:
        ValueError: if some experts lack an adapter, or have one of another rank or scale.
    """
    count, height, width = linear.weight.shape
    stacked = _read_stacked(file, stored, part, linear)
    if stacked is not None:
        return stacked
    names = [stored.replace("{e}", str(expert)) for expert in range(count)]
    pairs = {name: _read_pair(file, name, width, height) for name in names}
    found = [pair for pair in pairs.values() if pair is not None]
    if not found:
        return None
    if len(found) < count:
        missing = next(name for name, pair in pairs.items() if pair is None)
        raise ValueError(f"{file.path}: missing tensor '{PREFIX}{missing}.lora_A.weight'")
    if len({(len(pair.lora_a), pair.alpha) for pair in found}) > 1:
        raise ValueError(
            f"{file.path}: the experts of {stored} differ in rank or alpha; they must have one"
        )
    lora_a, lora_b = (torch.stack(matrices) for matrices in list(zip(*found, strict=True))[:2])
    return LoRALinear(linear, lora_a, lora_b, _plain(found[0].alpha))


def _read_stacked(file: _File, stored: str, part: str, linear: Projection) -> LoRALinear | None:
    """Return the adapter of a projection of all experts as `target_parameters` stores it."""
    count, height, width = linear.weight.shape
    prefix, ours = stored.partition(".{e}.")[0], part.rpartition(".")[2]
    targets = file.config.get("target_parameters") or ()
    adapted = [p for p in STACKED if any(f".{prefix}.{p}".endswith(f".{t}") for t in targets)]
    # peft wraps the module once per parameter: the last one outermost.
    for parameter, module in zip(reversed(adapted), (prefix, f"{prefix}.base_layer"), strict=False):
        if ours not in STACKED[parameter]:
            continue
        called, parts = f"{prefix}.{parameter}", STACKED[parameter]
        pair = _read_pair(file, module, width, height * len(parts), called, count)
        if pair is None:
            return None
        lora_a = pair.lora_a.unflatten(0, (count, -1))  # (experts, r, in)
        # (out, r * experts) with the expert as the fast index, to (experts, out, r)
        lora_b = pair.lora_b.unflatten(1, (-1, count)).permute(2, 0, 1)
        own = lora_b.split(height, 1)[parts.index(ours)]
        return LoRALinear(linear, lora_a, own.contiguous(), _plain(pair.alpha))
    return None
