"""Checkpoints of image models are read strictly, and refused before a weight is read."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.models.toy import GOLDEN
from unmask.checkpoints.magvit_files import load_magvit, magvit_spec
from unmask.models.vision.magvit import MagvitSpec

MAGVIT = GOLDEN / "magvitv2"
WIDE = {"ch": 2**18, "ch_mult": [1, 2, 1], "num_res_blocks": [2, 1, 2], "z_channels": 7}


def copy_of(
    source: Path, directory: Path, weights: str = "model.safetensors", **changes: Tensor | None
) -> Path:
    """Copy a golden checkpoint, with changed tensors; `None` leaves one out."""
    tensors: dict[str, Any] = load_file(source / "model.safetensors") | changes
    save_file({k: v for k, v in tensors.items() if v is not None}, directory / weights)
    shutil.copy(source / "config.json", directory)
    return directory


def change_config(directory: Path, **changes: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_published_file_name_and_no_quantizer_are_accepted(tmp_path: Path) -> None:
    changes = {"quantize.embedding": None, "quantize.power_vals": None}
    copy_of(MAGVIT, tmp_path, "pytorch_model.safetensors", **changes)
    found, expected = load_magvit(tmp_path).state_dict(), load_magvit(MAGVIT).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_refuses_two_files_of_weights(tmp_path: Path) -> None:
    copy_of(MAGVIT, copy_of(MAGVIT, tmp_path), "pytorch_model.safetensors")
    with pytest.raises(ValueError, match=r"pytorch_model.* remove the one that is stale"):
        load_magvit(tmp_path)


def test_number_format_in_memory() -> None:
    assert {p.dtype for p in load_magvit(MAGVIT, dtype=torch.bfloat16).parameters()} == {
        torch.bfloat16
    }


def test_sizes_that_the_published_config_does_not_state(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"_class_name": "MAGVITv2", "_diffusers_version": "0"}')
    assert magvit_spec(tmp_path) == MagvitSpec()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder.conv_in.bias": None}, "missing tensor 'encoder.conv_in.bias'"),
        ({"encoder.extra": torch.zeros(1)}, "unexpected tensor 'encoder.extra'"),
        (
            {"encoder.conv_in.bias": torch.zeros(31)},
            r"'encoder.conv_in.bias' has shape \(31,\), config.json asks for \(32,\)",
        ),
        (
            {"encoder.conv_in.bias": torch.zeros(32, dtype=torch.int8)},
            "'encoder.conv_in.bias' is stored as I8: only",
        ),
        (
            {"quantize.power_vals": 2 ** torch.arange(7)},
            "'quantize.power_vals' is not that of 7 bits, highest first",
        ),
        (
            {"quantize.embedding": torch.ones(64, 6)},
            "'quantize.embedding' is not that of 7 bits, highest first",
        ),
    ],
)
def test_refuses_other_tensors(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_magvit(copy_of(MAGVIT, tmp_path, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantizer": {"codebook_dim": 8}}, r"are \[7, 8\]: must be one number of bits"),
        ({"quantizer": {"codebook_dim": 40}}, "quantizer.codebook_dim = 40: must be less than or"),
        ({"encoder": {"ch": 33}}, "encoder.ch = 33: must be a multiple of 32"),
        ({"encoder": {"ch_mult": [1, 2]}}, r"have \[2, 3, 5\] numbers: must have one per level"),
        ({"encoder": WIDE}, "has shape .* config.json asks for"),
    ],
)
def test_refuses_sizes_before_memory_is_taken(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    change_config(copy_of(MAGVIT, tmp_path), **changes)
    with pytest.raises(ValueError, match=message):
        load_magvit(tmp_path)


def test_refuses_a_directory_without_weights_and_a_truncated_file(tmp_path: Path) -> None:
    shutil.copy(MAGVIT / "config.json", tmp_path)
    with pytest.raises(ValueError, match="has neither pytorch_model"):
        load_magvit(tmp_path)
    whole = (MAGVIT / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        load_magvit(tmp_path)
