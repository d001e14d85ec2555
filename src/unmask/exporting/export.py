"""Writes a model as a directory that opens in `transformers`, without unmask.

Config, names of tensors and tokenizer stay those of the family, so that everything that reads the published
checkpoints reads the result too. The code that `AutoModelForCausalLM` runs is

* the family's published modelling code, where the source directory holds the files that `auto_map` names. They are
  copied; nothing is downloaded, and nothing of them is run here;
* else `modeling_unmask.py`, a file of our own. `config.json` then states under `unmask` what that file reads.

Weights are copied file by file. A run that trained adapters is exported as adapters in peft's files, unless the
merged model is asked for.
"""

import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from unmask.checkpoints.checkpoint import copy_companions, read_spec
from unmask.checkpoints.lora_files import CONFIG as ADAPTER_CONFIG
from unmask.checkpoints.lora_files import TENSORS as ADAPTERS
from unmask.checkpoints.memory import meta_model
from unmask.checkpoints.random_init import require_unused
from unmask.checkpoints.tokenizer import has_tokenizer
from unmask.checkpoints.weights import (
    INDEX,
    check_tensors,
    held_tensors,
    read_headers,
    spare_names,
)
from unmask.exporting.model_card import Facts, card_text, read_evaluations
from unmask.exporting.origin import Origin, find_origin
from unmask.models.families import family_named
from unmask.models.families.config_file import CONFIG, read_config
from unmask.models.families.family import NUMBER, Config, id_value
from unmask.models.families.json_keys import read_json, write_json
from unmask.models.transformer import Model
from unmask.runs.files import atomic_directory, write_text
from unmask.runs.read import subtable

OUR_CODE = "modeling_unmask"
AUTO_CLASSES = ("AutoModelForCausalLM", "AutoModel")
GENERATION = "generation_config.json"
# Legal texts that weights must be passed on with.
LEGAL = ("LICENSE*", "LICENCE*", "NOTICE*")
LAYER, BACKBONE, VISION = "backbone.layers.{i}.", "backbone.", "backbone.vision."
BIAS = f"{LAYER}ffn.router.expert_bias"
# Fields of a `ModelSpec` that the modelling file does not read, or that config.json states under the family's key.
UNREAD = {"mask_id", "num_drawable", "eos_ids", "vision", "image_ids", "sub_block_size"}


@dataclass(frozen=True, slots=True)
class ExportParams:
    """What is exported, and how.

    Attributes:
        source: a run, the directory of a model, or a hub id.
        merge_lora: write the merged model of a run that trained adapters, in place of the adapters.
        own_code: write our modelling file even where the source has published code.
        licence: of the result, an identifier of the Hub; that of the base model's card by default.
        base: model on the Hub that the source was made from; found in its runs by default.
        evaluations: runs of `unmask eval` whose results the card holds.
        family: `module:OBJECT` of a family outside this package.
        name: repository on the Hub that the card names; by default the directory.
    """

    source: str
    merge_lora: bool = False
    own_code: bool = False
    licence: str | None = None
    base: str | None = None
    evaluations: tuple[Path, ...] = ()
    family: str | None = None
    name: str | None = None


def export(params: ExportParams, directory: Path) -> Facts:
    """Write a model, or the adapters of a run, as a directory for `transformers` or peft.

    Args:
        params: what is exported.
        directory: new or empty; it appears when it is complete.

    Returns:
        What its model card states.

    Raises:
        ValueError: naming the run, file, key or option that prevents it.
    """
    directory = directory.resolve()
    require_unused(directory)
    origin = find_origin(params.source, params.base)
    if params.merge_lora and origin.adapter is None:
        raise ValueError(f"--merge-lora: {params.source} is no run that trained adapters ([lora])")
    evaluations = read_evaluations(params.evaluations)
    spec = read_spec(origin.model, family=params.family or origin.family)
    model = meta_model(spec)
    stored = read_headers(origin.model)
    check_tensors(model, stored)
    is_adapter = origin.adapter is not None and not params.merge_lora
    published = published_class(origin.model, read_config(origin.model))
    auto = None if params.own_code else published
    facts = Facts(
        name=params.name or directory.name,
        origin=origin,
        spec=spec,
        num_parameters=sum(math.prod(header.shape) for header in stored.values()),
        code="adapter" if is_adapter else "own" if auto is None else "published",
        auto=auto or AUTO_CLASSES[0],
        licence=params.licence or origin.licence,
        evaluations=evaluations,
    )
    with atomic_directory(directory) as partial:
        if is_adapter:
            _write_adapter(origin, params, partial)
        else:
            _write_model(origin.model, model, partial, facts.code == "own")
            for file in {header.file for header in stored.values()}:
                shutil.copyfile(file, partial / file.name)
        write_text(partial / "README.md", card_text(facts))
    return facts


def notes(facts: Facts) -> Iterator[str]:
    """Yield what the user should see: parts that the result lacks."""
    theirs = next(iter(code_names(read_config(facts.origin.model)).values()), OUR_CODE)
    if facts.code == "own" and not theirs.startswith(OUR_CODE):
        yield f"auto_map names {theirs}: {OUR_CODE}.py is written in place of that code"
    if facts.code == "own" and (facts.spec.vision or facts.spec.image_ids):
        yield f"images: {OUR_CODE}.py reads text; unmask reads images from the same directory"
    if not has_tokenizer(facts.origin.model):
        yield f"tokenizer: {facts.origin.model} has none"
    if facts.licence is None:
        yield "licence: none is stated; give that of the base model, or your own: --license ID"


def _write_model(source: Path, model: Model, directory: Path, is_own: bool) -> None:
    """Write everything except the weights and the card."""
    config = read_config(source)
    copy_companions(source, directory, has_code=not is_own)
    kept = (*LEGAL, "tokenization*.py", INDEX)
    for file in (file for pattern in kept for file in source.glob(pattern) if file.is_file()):
        shutil.copyfile(file, directory / file.name)
    if not (directory / GENERATION).is_file():
        end, pad = id_value(model.spec.eos_ids), config.get("pad_token_id")
        ids = {"eos_token_id": end, "pad_token_id": pad}
        write_json(directory / GENERATION, {key: ids[key] for key in ids if ids[key] is not None})
    if is_own:
        code = files("unmask.exporting").joinpath(f"{OUR_CODE}.py")
        write_text(directory / f"{OUR_CODE}.py", code.read_text(encoding="utf-8"))
        config |= own_code_fields(model)
    write_json(directory / CONFIG, config)


def code_names(config: Config) -> dict[str, str]:
    """Return the model classes that `auto_map` names, by the class of transformers that opens them."""
    named: Any = config.get("auto_map")
    found = named if isinstance(named, dict) else {}
    return {auto: found[auto] for auto in AUTO_CLASSES if isinstance(found.get(auto), str)}


def published_class(directory: Path, config: Config) -> str | None:
    """Return the class of transformers that opens a directory by the modelling files in it, if they are there."""
    for auto, name in code_names(config).items():
        # A name with a repository in front is that of a file to download.
        module = name.partition(".")[0]
        if module != OUR_CODE and (directory / f"{module}.py").is_file():
            return auto
    return None


def own_code_fields(model: Model) -> dict[str, Any]:
    """Return the keys of `config.json` that our modelling file reads, and an `auto_map` that names it."""
    spec, family = model.spec, family_named(model.spec.family)
    fields = {name: value for name, value in asdict(spec).items() if name not in UNREAD}
    held = {NUMBER.sub("{i}", name) for name in held_tensors(model)}
    held |= {name.rpartition(".")[0] for name in held}  # families name modules, seldom parameters
    names = {ours: stored for ours, stored in family.modules.items() if ours in held}
    if BIAS in held:
        names.setdefault(BIAS, f"{names[BIAS.rpartition('.')[0]]}.expert_bias")
    fields["names"] = {
        ours.removeprefix(LAYER).removeprefix(BACKBONE): stored
        for ours, stored in names.items()
        if not ours.startswith(VISION)
    }
    fields["block_key"] = family.block_key
    fields["architectures"] = list(family.architectures[:1])
    # Regular expressions of the tensors that it leaves in the files.
    seen = {family.weight_name(name) for name in held_tensors(model) if name.startswith(VISION)}
    places = sorted({".".join(name.split(".")[:2]) for name in seen})
    fields["unused"] = [f"^{re.escape(place)}" for place in (*places, *spare_names(model))]
    code = dict.fromkeys(AUTO_CLASSES, f"{OUR_CODE}.UnmaskForCausalLM")
    return {
        "auto_map": {"AutoConfig": f"{OUR_CODE}.UnmaskConfig", **code},
        **({} if spec.mask_id is None else {family.mask_key: spec.mask_id}),
        **({} if family.block_key is None else {family.block_key: spec.block_size}),
        "unmask": fields,
    }


def _write_adapter(origin: Origin, params: ExportParams, directory: Path) -> None:
    """Write the adapters of a run and its tokenizer; peft finds the base model by its name on the Hub."""
    assert origin.adapter is not None
    start = str(subtable(origin.runs[0].config, "model").get("path"))
    if origin.base is None or (params.base is None and origin.base != start):
        raise ValueError(
            f"{params.source}: its adapters belong to {start}, which is not on the Hub: give --merge-lora for the "
            "whole model, or --base-model USER/NAME if it is there under that name"
        )
    copy_companions(origin.model, directory, has_code=False)
    (directory / GENERATION).unlink(missing_ok=True)
    config = read_json(origin.adapter / ADAPTER_CONFIG) | {"base_model_name_or_path": origin.base}
    write_json(directory / ADAPTER_CONFIG, config)
    shutil.copyfile(origin.adapter / ADAPTERS, directory / ADAPTERS)
