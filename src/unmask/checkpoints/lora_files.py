"""LoRA adapters as files: those of `peft`, under the checkpoint's module names.

`peft` lays them over the published model, and what `peft` trained on it is read here. Where a family
stores projections fused (LLaDA2's queries, keys and values), the file holds one adapter of rank n r:
the A one below the other, the B along the diagonal. That is the same map exactly, and needs all n of
them; `alpha_pattern` and `rank_pattern` say so. In reading, an adapter of that shape falls apart
again; any other fused one gives each part all of A and its own rows of B.

What `peft` offers beyond plain LoRA is refused by name. `task_type` is null: peft's class for causal
language models asks for a method that not every published diffusion model has.
"""

import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from unmask.checkpoints.tensor_files import save_tensors
from unmask.checkpoints.weights import FLOATING, open_tensors
from unmask.models.families import family_named
from unmask.models.families.json_keys import Keys, Size, read_json, shortened, write_json
from unmask.models.lora import LoRALinear, adapters, plain_projections, stored_projections
from unmask.models.transformer import Model
from unmask.models.value_model import ValueModel

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
# What peft offers and would compute something else: each must be absent or empty.
UNKNOWN_HERE = (
    *("alora_invocation_tokens", "arrow_config", "fan_in_fan_out", "kasa_config"),
    *("layer_replication", "lora_bias", "modules_to_save", "monteclora_config"),
    *("target_parameters", "trainable_token_indices", "use_bdlora", "use_dora", "use_qalora"),
    *("use_rslora", "velora_config"),
)

Alpha = Annotated[float, Field(gt=0, le=1e6)]
# Ends of module names, and what joins and anchors them. Other regular expressions could run for ever.
ModulePattern = Annotated[str, Field(pattern=r"^[\w.^$|-]+$")]


class AdapterKeys(Keys):
    """The keys of `adapter_config.json` that say how large an adapter is."""

    r: Size
    lora_alpha: Alpha
    rank_pattern: dict[ModulePattern, Size] | None = None
    alpha_pattern: dict[ModulePattern, Alpha] | None = None


def save_adapter(model: Model | ValueModel, directory: str | Path, base: str | None = None) -> None:
    """Write the adapters as `peft` does.

    Args:
        model: with adapters.
        directory: made if it is not there.
        base: what the file calls the model they belong to; by default where it was loaded from.

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
        if not pieces:
            continue
        lora_a = torch.cat([piece.lora_a.detach() for piece in pieces])
        lora_b = torch.block_diag(*(piece.lora_b.detach() for piece in pieces))
        tensors[f"{PREFIX}{stored}.lora_A.weight"] = lora_a.contiguous()
        tensors[f"{PREFIX}{stored}.lora_B.weight"] = lora_b.contiguous()
        shapes[stored] = (len(lora_a), sum(piece.alpha for piece in pieces))
    save_tensors(tensors, directory / TENSORS)
    write_json(directory / CONFIG, _peft_config(model, shapes, base or source))


def load_adapter(model: Model | ValueModel, directory: str | Path) -> None:
    """Freeze a model, in place, and put the adapters of a `peft` directory on it.

    The adapter's dropout, if it was trained with any, is not applied here.

    Args:
        model: without adapters.
        directory: holds `adapter_config.json` and `adapter_model.safetensors`.

    Raises:
        ValueError: naming the key we cannot honour, or the tensor that is missing, unexpected or of
            the wrong shape; the model is then untouched.
    """
    directory = Path(directory)
    found = plain_projections(model)
    config = _read_config(directory / CONFIG)
    stored = stored_projections(model)
    placed: list[tuple[str, LoRALinear]] = []
    for pair in _read_pairs(directory / TENSORS, stored.keys()):
        parts = stored[pair.stored]
        linears = [found[part] for part in parts]
        alpha = _checked_alpha(directory, config, pair, linears)
        for part, linear, (lora_a, lora_b) in zip(
            parts, linears, _split(pair, linears), strict=True
        ):
            own = _plain(alpha * len(lora_a) / len(pair.lora_a))
            placed.append((part, LoRALinear(linear, lora_a, lora_b, own)))
    model.requires_grad_(False)
    for name, adapter in placed:
        model.set_submodule(name, adapter)


class _Pair(NamedTuple):
    """An adapter of a file: the checkpoint's module it belongs to, and its two matrices."""

    stored: str
    lora_a: Tensor
    lora_b: Tensor


def _peft_config(
    model: Model | ValueModel, shapes: Mapping[str, tuple[int, float]], base: str | None
) -> dict[str, Any]:
    """Return an `adapter_config.json`: `shapes` are rank and alpha of the checkpoint's modules."""
    # Those of a fused tensor are the exception, so the most frequent go into the plain fields.
    ((rank, alpha), _), *_ = Counter(shapes.values()).most_common(1)
    family = family_named(model.spec.family)
    ours = (".lora_", "value_head.")  # which the published model has not
    held = [(name, p) for name, p in model.named_parameters() if p.dim() > 1]
    weights = [name for name, _ in held if not any(part in name for part in ours)]
    stored = {family.weight_name(name).removesuffix(".weight") for name in weights}
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
    """Return an alpha without the dust of arithmetic: 3 x 0.7 / 3 must be 0.7 again, to the bit."""
    tidy = float(f"{alpha:.14g}")
    return int(tidy) if tidy.is_integer() else tidy


def _shortest_suffixes(adapted: Iterable[str], stored: set[str]) -> list[str]:
    """Return ends of module names that fit the adapted modules and no other of the checkpoint.

    peft adapts whatever ends like a target: LLaDA's `ff_out` is also its head, `gate_proj` is also
    every expert's.
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
        ValueError: naming what it asks for and we cannot do.
    """
    config = read_json(path, AdapterKeys)
    needed: dict[str, tuple[object, ...]] = {
        "peft_type": ("LORA",),
        "bias": ("none", None),
        # Other beginnings (PiSSA, OLoRA ...) change the weights that the adapter stands beside.
        "init_lora_weights": (True, False, None, "gaussian"),
    }
    for key, fine in needed.items():
        if config.get(key) not in fine:
            stated = shortened(config.get(key))
            raise ValueError(f"{path}: {key} = {stated}: only {fine[0]!r} is supported")
    for key in UNKNOWN_HERE:
        if config.get(key):
            raise ValueError(f"{path}: {key} = {shortened(config[key])} is not supported")
    return config


def _read_pairs(path: Path, stored: Container[str]) -> list[_Pair]:
    """Read the matrices of an adapter file, by module; each must be one of `stored`.

    Raises:
        ValueError: naming the tensor that is missing or unexpected.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; pickled adapters are not read")
    pattern = re.compile(rf"{re.escape(PREFIX)}(.+)\.lora_([AB])\.weight")
    halves: dict[str, dict[str, Tensor]] = {}
    with open_tensors(path) as reader:
        for name in reader.keys():  # noqa: SIM118 (no mapping, only a method of that name)
            match = pattern.fullmatch(name)
            if match is None or match[1] not in stored:
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
    return [_Pair(name, held["A"], held["B"]) for name, held in sorted(halves.items())]


def _checked_alpha(
    directory: Path, config: Mapping[str, Any], pair: _Pair, linears: Sequence[nn.Linear]
) -> float:
    """Return the alpha of an adapter.

    Raises:
        ValueError: if its matrices have not the shape that config and model ask for.
    """
    rank = _of_pattern(config.get("rank_pattern"), pair.stored, config["r"])
    heights = [linear.out_features for linear in linears]
    expected = (rank, linears[0].in_features), (sum(heights), rank)
    shapes = tuple(pair.lora_a.shape), tuple(pair.lora_b.shape)
    if shapes != expected:
        raise ValueError(
            f"{directory / TENSORS}: the adapter of {pair.stored} has shapes {shapes}, {CONFIG} and "
            f"the model ask for {expected}"
        )
    return float(_of_pattern(config.get("alpha_pattern"), pair.stored, config["lora_alpha"]))


def _of_pattern(pattern: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """Return the value of the first key that fits the end of a module's name, as peft does."""
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default


def _split(pair: _Pair, linears: Sequence[nn.Linear]) -> list[tuple[Tensor, Tensor]]:
    """Return the A and B of each projection that a stored one holds: see the module's docstring."""
    rows = pair.lora_b.split([linear.out_features for linear in linears])
    rank, rest = divmod(len(pair.lora_a), len(linears))
    if rest == 0:
        parts = pair.lora_a.split(rank)
        blocks = [row[:, i * rank : (i + 1) * rank] for i, row in enumerate(rows)]
        if torch.equal(torch.block_diag(*blocks), pair.lora_b):
            return list(zip(parts, blocks, strict=True))
    return [(pair.lora_a, row) for row in rows]
