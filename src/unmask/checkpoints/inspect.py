"""What a checkpoint is, what it needs, and what is wrong with it: read from its headers alone.

No weight is read, so a model far larger than this machine is looked at in a second. Whatever
`load_model` would refuse is found here too, by the same code, and marked as preventing loading; with
it comes what loading lets pass and somebody stumbles over later: a tokenizer that belongs to another
model, a text that nothing ends, a number format other than the one stated. Every finding says what to
do. One that prevents the next look (no `config.json`, say) does not hide those that do not need it.
"""

import math
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from unmask.checkpoints.checkpoint import find_checkpoint, read_spec
from unmask.checkpoints.memory import (
    Serving,
    Training,
    count_parameters,
    meta_model,
    serving_memory,
    training_memory,
)
from unmask.checkpoints.tokenizer import (
    Tokenizer,
    check_template,
    has_tokenizer,
    load_tokenizer,
    num_tokens,
)
from unmask.checkpoints.weights import FLOATING, check_tensors, read_headers
from unmask.models.families import family_named, family_of
from unmask.models.families.autoregressive import SOURCES
from unmask.models.families.config_file import read_config, spec_of_config
from unmask.models.spec import ModelSpec

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        subject: what of: config, weights, tokenizer, mask, eos, chat template, number format.
        found: what is wrong.
        way_out: what to do about it.
        prevents_loading: whether `load_model` refuses the checkpoint for it.
    """

    subject: str
    found: str
    way_out: str
    prevents_loading: bool


@dataclass(frozen=True, slots=True)
class SpecialToken:
    """A token with a role.

    Attributes:
        role: mask, eos, pad or bos.
        id: its id.
        text: how the tokenizer spells it; `None` where it has no such token, or there is none.
        origin: who says so: a file, or the family.
    """

    role: str
    id: int
    text: str | None
    origin: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found.

    Attributes:
        path: the directory.
        spec: how `load_model` reads it; `None` if it cannot be read.
        num_parameters: of the model the config describes.
        num_active: of them, those one token passes.
        stated_dtype: number format in the config.
        stored: how many numbers the files hold in each format.
        stored_bytes: of all of them.
        num_files: files of weights.
        num_token_ids: ids the tokenizer decodes; `None` without one.
        has_chat_template: `None` without a tokenizer.
        tokens: special tokens.
        serving: memory to serve, by number format.
        training: memory to train, by number format and number of devices.
        problems: what is wrong, what prevents loading first.
    """

    path: str
    spec: ModelSpec | None = None
    num_parameters: int | None = None
    num_active: int | None = None
    stated_dtype: str | None = None
    stored: dict[str, int] = field(default_factory=dict[str, int])
    stored_bytes: int = 0
    num_files: int = 0
    num_token_ids: int | None = None
    has_chat_template: bool | None = None
    tokens: tuple[SpecialToken, ...] = ()
    serving: tuple[Serving, ...] = ()
    training: tuple[Training, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def loads(self) -> bool:
        """Whether `load_model` takes it."""
        return not any(problem.prevents_loading for problem in self.problems)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON holds it."""
        return asdict(self) | {"loads": self.loads}


def inspect_checkpoint(
    path_or_hub_id: str | Path, cached_tokens: int | None = None, family: str | None = None
) -> Inspection:
    """Look at a checkpoint without reading a weight.

    Args:
        path_or_hub_id: directory, or hub id of a model, which is downloaded.
        cached_tokens: tokens the memory of serving is counted for; the model's greatest length when
            not given.
        family: as in `load_model`.

    Raises:
        ValueError: if there is no such directory or model.
    """
    if cached_tokens is not None and cached_tokens < 0:
        raise ValueError(f"tokens = {cached_tokens}: must be at least 0")
    directory = find_checkpoint(path_or_hub_id)
    problems: list[Problem] = []
    config = _attempt("config", lambda: read_config(directory), problems) or {}
    tokenizer = _tokenizer(directory, problems)
    spec = _spec(directory, config, family, problems) if config else None
    found = Inspection(
        path=str(directory),
        spec=spec,
        stated_dtype=config.get("dtype") or config.get("torch_dtype"),
        num_token_ids=None if tokenizer is None else num_tokens(tokenizer),
        has_chat_template=None if tokenizer is None else tokenizer.chat_template is not None,
    )
    found = _with_weights(found, directory, problems)
    if spec is not None:
        total, active = count_parameters(meta_model(spec))
        length = spec.max_length if cached_tokens is None else cached_tokens
        found = replace(
            found,
            num_parameters=total,
            num_active=active,
            tokens=tuple(_special_tokens(config, spec, tokenizer)),
            serving=tuple(serving_memory(spec, total, length)),
            training=tuple(training_memory(total)),
        )
        _check_tokens(spec, config, tokenizer, problems)
    _check_dtype(found, problems)
    ordered = sorted(problems, key=lambda problem: not problem.prevents_loading)
    return replace(found, problems=tuple(ordered))


def _attempt(
    subject: str, read: Callable[[], T], problems: list[Problem], way_out: str = ""
) -> T | None:
    """Return what `read` returns; write down the lines of a `ValueError`, each of which prevents loading."""
    try:
        return read()
    except ValueError as error:
        way_out = way_out or "get the file again, or mend it"
        problems += [Problem(subject, line, way_out, True) for line in str(error).splitlines()]
        return None


def _tokenizer(directory: Path, problems: list[Problem]) -> Tokenizer | None:
    if not has_tokenizer(directory):
        found = "no tokenizer.json, and no vocab.json and merges.txt"
        way_out = "copy the files of the model it was trained from; without, only token ids work"
        problems.append(Problem("tokenizer", found, way_out, False))
        return None
    tokenizer = _attempt("tokenizer", lambda: load_tokenizer(directory), problems)
    if tokenizer is None:
        return None
    if tokenizer.chat_template is None:
        way_out = "give one (chat_template.jinja); prompts are plain text without"
        problems.append(Problem("chat template", "none", way_out, False))
        return tokenizer
    try:
        check_template(tokenizer)
    except ValueError as error:
        way_out = "correct the template; without, only --no-chat and token ids work"
        problems.append(Problem("chat template", str(error), way_out, False))
    return tokenizer


def _spec(
    directory: Path, config: dict[str, Any], family: str | None, problems: list[Problem]
) -> ModelSpec | None:
    """Read the spec as `load_model` does, and turn its warnings into problems."""
    stated = (config.get("architectures") or [config.get("model_type")])[0]
    way_out = "correct config.json"
    if stated in {name for s in SOURCES for name in (s.architecture("CausalLM"), s.model_type)}:
        way_out = f"make it a diffusion model: unmask convert {directory} DESTINATION --to sdar"
    if any(p.subject == "tokenizer" and p.prevents_loading for p in problems):

        def read_alone() -> ModelSpec:
            return spec_of_config(family_of(config, family).read_spec, config, directory)

        return _attempt("config", read_alone, problems, way_out)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        spec = _attempt("config", lambda: read_spec(directory, family=family), problems, way_out)
    for warning in caught:
        way_out = "state it in config.json, or pass mask_id=... (model.mask_id)"
        problems.append(Problem("mask", str(warning.message), way_out, False))
    return spec


def _with_weights(found: Inspection, directory: Path, problems: list[Problem]) -> Inspection:
    """Look at the headers of the files of weights, and at their tensors if the spec is known."""
    way_out = "download or copy it again"
    headers = _attempt("weights", lambda: read_headers(directory), problems, way_out)
    if headers is None:
        return found
    stored: Counter[str] = Counter()
    for _, shape, dtype in headers.values():
        stored[FLOATING.get(dtype, dtype)] += math.prod(shape)
    files = {file for file, _, _ in headers.values()}
    if (spec := found.spec) is not None:
        way_out = "files and config.json belong to different models, or a part was not saved"
        _attempt("weights", lambda: check_tensors(meta_model(spec), headers), problems, way_out)
    size = sum(file.stat().st_size for file in files)
    return replace(found, stored=dict(stored), stored_bytes=size, num_files=len(files))


def _special_tokens(
    config: dict[str, Any], spec: ModelSpec, tokenizer: Tokenizer | None
) -> list[SpecialToken]:
    texts = {} if tokenizer is None else {i: text for text, i in tokenizer.get_vocab().items()}
    found: list[SpecialToken] = []
    if spec.mask_id is not None:
        own = None if tokenizer is None else tokenizer.mask_token_id
        in_config = config.get(family_named(spec.family).mask_key)
        origin = "config" if in_config is not None else "tokenizer"
        if in_config is None and own is None:
            origin = f"default of {spec.family}"
        found.append(SpecialToken("mask", spec.mask_id, texts.get(spec.mask_id), origin))
    for token_id in spec.eos_ids:
        is_stated = config.get("eos_token_id") is not None
        origin = "config" if is_stated else "generation config or tokenizer"
        found.append(SpecialToken("eos", token_id, texts.get(token_id), origin))
    for role in ("pad", "bos"):
        own = getattr(tokenizer, f"{role}_token_id", None)
        token_id = config.get(f"{role}_token_id") if own is None else own
        if isinstance(token_id, int):
            origin = "config" if own is None else "tokenizer"
            found.append(SpecialToken(role, token_id, texts.get(token_id), origin))
    return found


def _check_tokens(
    spec: ModelSpec, config: dict[str, Any], tokenizer: Tokenizer | None, problems: list[Problem]
) -> None:
    """Compare config, vocabulary and tokenizer with each other."""

    def note(subject: str, found: str, way_out: str) -> None:
        problems.append(Problem(subject, found, way_out, False))

    if not spec.eos_ids:
        way_out = (
            "state eos_token_id in generation_config.json; responses run to max_tokens without"
        )
        note("eos", "nobody says which token ends a text", way_out)
    for token_id in spec.eos_ids:
        if not 0 <= token_id < spec.vocab_size:
            way_out = "correct eos_token_id in config.json or generation_config.json"
            note("eos", f"{token_id} is outside the {spec.vocab_size} ids of the model", way_out)
    if tokenizer is None:
        return
    known = num_tokens(tokenizer)
    if known > spec.vocab_size:
        found = f"it has {known} ids, the model {spec.vocab_size} rows (vocab_size)"
        note("tokenizer", found, "take the tokenizer the model was trained with")
    stated, own = config.get(family_named(spec.family).mask_key), tokenizer.mask_token_id
    if None not in (stated, own) and stated != own:
        found = f"config.json says {stated}, the tokenizer {own}; config.json is believed"
        note("mask", found, "correct the wrong one of the two")
    if spec.mask_id is not None and known <= spec.mask_id < spec.vocab_size and own is None:
        found = f"id {spec.mask_id} has no text in the tokenizer, which has {known} ids"
        note("mask", found, "harmless unless a text should contain it; else add the token")


def _check_dtype(found: Inspection, problems: list[Problem]) -> None:
    """Compare the format stated with that of most numbers stored: some buffers are kept wider on purpose."""
    if found.stated_dtype is None or not found.stored:
        return
    stored = max(found.stored, key=lambda dtype: found.stored[dtype])
    if stored != found.stated_dtype:
        text = f"config.json states {found.stated_dtype}, the files hold {stored}"
        way_out = "correct torch_dtype (dtype) in config.json; dtype = auto believes it"
        problems.append(Problem("number format", text, way_out, False))
