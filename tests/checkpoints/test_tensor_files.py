"""Files of tensors have the permissions of text files."""

import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from unmask.checkpoints.tensor_files import save_tensors


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_file_of_tensors_has_the_permissions_of_a_new_file(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        save_tensors({"x": torch.arange(3)}, tmp_path / "x.safetensors")
        (tmp_path / "text").write_text("x")
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode for name in ("x.safetensors", "text")]
    assert modes[0] == modes[1]


def test_tensors_are_read_as_written(tmp_path: Path) -> None:
    save_tensors({"x": torch.arange(3)}, tmp_path / "x.safetensors")
    assert load_file(tmp_path / "x.safetensors")["x"].tolist() == [0, 1, 2]
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
