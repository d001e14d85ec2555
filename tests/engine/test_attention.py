"""Backends are the files of their folder; rows are written to their places in every layout of pages."""

from pathlib import Path

import pytest
import torch

import unmask.engine.attention_backends as folder
from unmask.engine.attention import BACKENDS, backend_of, write_pages


def test_backends_are_the_files_of_the_folder() -> None:
    files = {path.stem for path in Path(folder.__path__[0]).glob("[a-z]*.py")}
    assert files == set(BACKENDS)
    assert all(backend_of(name).page_size >= 64 for name in BACKENDS)


@pytest.mark.parametrize("heads_first", [False, True])
def test_rows_are_written_to_their_places_in_either_layout(heads_first: bool) -> None:
    cache = torch.zeros(3, 2, 4, 5)  # (M, Hk, W, E)
    if heads_first:
        cache = cache.transpose(0, 1).contiguous().transpose(0, 1)
    fed = torch.randn(2, 2, 5)
    write_pages(cache, fed, torch.tensor([5, 11]))
    assert torch.equal(cache[1, :, 1], fed[0]) and torch.equal(cache[2, :, 3], fed[1])
    assert cache.count_nonzero() == fed.numel()
