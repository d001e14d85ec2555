"""A checkpoint described from its headers: what it is, the memory it takes, and why it does not load.

No weight is read, so a model far larger than this machine is inspected in a second. The errors are
those of `load_model` and of its tokenizer, found by the same code; each file is checked whether or not
another one is broken.
"""

import math
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from unmask.checkpoints.checkpoint import find_checkpoint, read_spec
from unmask.checkpoints.memory import Memory, count_parameters, memory, meta_model
from unmask.checkpoints.tokenizer import has_tokenizer, load_tokenizer, num_tokens
from unmask.checkpoints.weights import FLOATING, check_tensors, read_headers
from unmask.models.families import family_of
from unmask.models.families.config_file import read_config, spec_of_config
from unmask.models.spec import ModelSpec

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Inspection:
    """The description of a checkpoint.

    Attributes:
        path: the directory.
        spec: as `load_model` reads it; `None` if it cannot be read.
        num_parameters: of the model the config describes.
        num_active: of them, those one token passes.
        stated_dtype: number format in the config.
        stored: count of the numbers that the files hold in each format.
        stored_bytes: of all files of weights.
        num_files: files of weights.
        num_token_ids: ids the tokenizer decodes; `None` without one.
        has_chat_template: `None` without a tokenizer.
        memory: in each number format; empty without a spec.
        errors: the errors that loading raises, one per line of its messages.
        warnings: the warnings of loading.
    """

    path: str
    spec: ModelSpec | None
    num_parameters: int | None
    num_active: int | None
    stated_dtype: str | None
    stored: dict[str, int]
    stored_bytes: int
    num_files: int
    num_token_ids: int | None
    has_chat_template: bool | None
    memory: tuple[Memory, ...]
    errors: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def loads(self) -> bool:
        """Whether `load_model` and `load_tokenizer` take it."""
        return not self.errors

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON holds it."""
        return asdict(self) | {"loads": self.loads}


def inspect_checkpoint(
    path_or_hub_id: str | Path, cached_tokens: int | None = None, family: str | None = None
) -> Inspection:
    """Describe a checkpoint without reading a weight.

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
    errors: list[str] = []
    config = _attempt(lambda: read_config(directory), errors) or {}
    tokenizer, is_broken = None, False
    if has_tokenizer(directory):
        tokenizer = _attempt(lambda: load_tokenizer(directory), errors)
        is_broken = tokenizer is None

    def spec_of_files() -> ModelSpec:
        if is_broken:  # the spec of the config alone
            return spec_of_config(family_of(config, family).read_spec, config, directory)
        return read_spec(directory, family=family)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        spec = _attempt(spec_of_files, errors) if config else None
    stored = _attempt(lambda: read_headers(directory), errors) or {}
    counts: Counter[str] = Counter()
    for _, shape, dtype in stored.values():
        counts[FLOATING.get(dtype, dtype)] += math.prod(shape)
    files = {tensor.file for tensor in stored.values()}
    total = active = None
    needs: list[Memory] = []
    if spec is not None:
        model = meta_model(spec)
        total, active = count_parameters(model)
        needs = memory(spec, total, spec.max_length if cached_tokens is None else cached_tokens)
        if stored:
            _attempt(lambda: check_tensors(model, stored), errors)
    return Inspection(
        path=str(directory),
        spec=spec,
        num_parameters=total,
        num_active=active,
        stated_dtype=config.get("dtype") or config.get("torch_dtype"),
        stored=dict(counts),
        stored_bytes=sum(file.stat().st_size for file in files),
        num_files=len(files),
        num_token_ids=None if tokenizer is None else num_tokens(tokenizer),
        has_chat_template=None if tokenizer is None else tokenizer.chat_template is not None,
        memory=tuple(needs),
        errors=tuple(errors),
        warnings=tuple(str(warning.message) for warning in caught),
    )


def _attempt(read: Callable[[], T], errors: list[str]) -> T | None:
    """Return the result of `read`, or append the lines of its `ValueError`."""
    try:
        return read()
    except ValueError as error:
        errors += str(error).splitlines()
        return None
