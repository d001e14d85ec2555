"""Backends are the files of their folder; each is chosen by name, or refused with what it needs."""

from pathlib import Path

import pytest
import torch

import unmask.engine.attention_backends as folder
from tests.toy import SPEC
from unmask.engine.attention import (
    BACKENDS,
    Shapes,
    backend_of,
    choose_backend,
    write_pages,
)

CPU = Shapes(SPEC, torch.float32, torch.device("cpu"))


def test_backends_are_the_files_of_the_folder() -> None:
    files = {path.stem for path in Path(folder.__path__[0]).glob("[a-z]*.py")}
    assert files == set(BACKENDS)
    assert all(backend_of(name).page_size >= 64 for name in BACKENDS)


def test_auto_is_plain_on_a_cpu() -> None:
    name, backend = choose_backend("auto", CPU)
    assert name == "plain" and not backend.is_static


@pytest.mark.parametrize("name", ["kernel", "varlen"])
def test_a_backend_that_cannot_run_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"attention = '{name}': needs .*used: plain, flex"):
        choose_backend(name, CPU)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("heads_first", [False, True])
def test_rows_are_written_to_their_places_in_either_layout(heads_first: bool) -> None:
    cache = torch.zeros(3, 2, 4, 5)  # (M, Hk, W, E)
    if heads_first:
        cache = cache.transpose(0, 1).contiguous().transpose(0, 1)
    fed = torch.randn(2, 2, 5)
    write_pages(cache, fed, torch.tensor([5, 11]))
    assert torch.equal(cache[1, :, 1], fed[0]) and torch.equal(cache[2, :, 3], fed[1])
    assert cache.count_nonzero() == fed.numel()
