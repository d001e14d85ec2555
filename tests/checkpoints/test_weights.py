"""Every family's tensors: fused, stacked, tied and sharded ones are restored to the bit."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.models.toy import FAMILY_CHANGES, GOLDEN, family_model, toy_model
from unmask.checkpoints.checkpoint import load_model, save_model
from unmask.checkpoints.weights import INDEX, WEIGHTS, stored_names, stored_parts
from unmask.models.families import families
from unmask.models.families.json_keys import read_json

NAMES = [family.name for family in families()]
IDS = torch.arange(22)[None]


@pytest.mark.parametrize("is_tied", [False, True])
@pytest.mark.parametrize("family", NAMES)
@torch.no_grad()
def test_save_load_save(family: str, is_tied: bool, tmp_path: Path) -> None:
    model = family_model(family, is_tied=is_tied)
    save_model(model, tmp_path / "first")
    loaded = load_model(tmp_path / "first")
    assert loaded.spec == model.spec
    assert loaded.logits(IDS).equal(model.logits(IDS))
    save_model(loaded, tmp_path / "second")
    for name in (WEIGHTS, "config.json"):
        first, second = (tmp_path / place / name for place in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("family", NAMES)
def test_the_toy_of_a_family_has_every_kind_of_tensor(family: str, tmp_path: Path) -> None:
    """The round trips above then cover all names of a published checkpoint."""
    save_model(family_model(family), tmp_path)
    ours, theirs = (
        {re.sub(r"\d+", "N", name) for name in stored_names(directory)}
        for directory in (tmp_path, GOLDEN / family)
    )
    assert theirs <= ours


@pytest.mark.filterwarnings("ignore:no mask id")
@pytest.mark.parametrize("family", NAMES)
def test_a_published_checkpoint_is_exported_as_it_came(family: str, tmp_path: Path) -> None:
    source = GOLDEN / family
    save_model(load_model(source, dtype=None), tmp_path)
    ours, theirs = load_file(tmp_path / WEIGHTS), load_file(source / WEIGHTS)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert tensor.dtype == ours[name].dtype and tensor.equal(ours[name])
    assert read_json(tmp_path / "config.json") == read_json(source / "config.json")
    assert "auto_map" in read_json(tmp_path / "config.json") or family == "lladav"


@pytest.mark.parametrize("family", ["llada2", "sdar_moe", "llada"])
def test_shards_keep_to_their_size(family: str, tmp_path: Path) -> None:
    model, limit = family_model(family), 20_000
    save_model(model, tmp_path / "whole")
    save_model(model, tmp_path / "shards", max_shard_bytes=limit)
    shards = sorted((tmp_path / "shards").glob("*.safetensors"))
    index = json.loads((tmp_path / "shards" / INDEX).read_text())
    sizes = [sum(t.nbytes for t in load_file(shard).values()) for shard in shards]
    assert len(shards) > 3 and max(sizes) <= limit
    assert index["metadata"]["total_size"] == sum(sizes)
    assert {file.name for file in shards} == set(index["weight_map"].values())
    save_model(load_model(tmp_path / "shards"), tmp_path / "again")
    again, whole = (tmp_path / place / WEIGHTS for place in ("again", "whole"))
    assert again.read_bytes() == whole.read_bytes()


@torch.no_grad()
def test_a_tied_head_that_is_stored_twice_stays_twice(tmp_path: Path) -> None:
    save_model(toy_model(is_tied=True), tmp_path / "once")
    tensors = load_file(tmp_path / "once" / WEIGHTS)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, tmp_path / "once" / WEIGHTS, metadata={"format": "pt"})
    save_model(load_model(tmp_path / "once"), tmp_path / "twice")
    once, twice = (tmp_path / place / WEIGHTS for place in ("once", "twice"))
    assert once.read_bytes() == twice.read_bytes()


def test_projections_are_fused_by_heads() -> None:
    parts = stored_parts(family_model("llada2"))["model.layers.0.attention.query_key_value.weight"]
    attention = "backbone.layers.0.attention"
    assert [part.name for part in parts] == [f"{attention}.{kind}.weight" for kind in "qkv"]


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, None])
def test_a_buffer_keeps_the_format_of_its_file(
    stored: torch.dtype, dtype: torch.dtype | None, tmp_path: Path
) -> None:
    """LLaDA2.0 stores its expert bias in bf16, 2.1 in fp32; rounding it would move tokens to other experts."""
    save_model(family_model("llada2"), tmp_path / "made")
    name = "model.layers.1.mlp.gate.expert_bias"
    tensors = load_file(tmp_path / "made" / WEIGHTS)
    tensors[name] = tensors[name].to(stored)
    save_file(tensors, tmp_path / "made" / WEIGHTS)
    save_model(load_model(tmp_path / "made", dtype=dtype), tmp_path / "saved")
    with safe_open(tmp_path / "saved" / WEIGHTS, framework="pt") as reader:
        assert reader.get_tensor(name).equal(tensors[name])
        assert reader.get_tensor(name).dtype == stored


def spoil(directory: Path, name: str, tensor: torch.Tensor | None) -> None:
    tensors = load_file(directory / WEIGHTS)
    tensors.pop(name) if tensor is None else tensors.update({name: tensor})
    save_file(tensors, directory / WEIGHTS)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        (
            "model.layers.1.mlp.experts.7.up_proj.weight",
            None,
            "missing tensor '.*experts.7.up_proj",
        ),
        (
            "model.layers.1.mlp.experts.8.up_proj.weight",
            torch.ones(24, 32),
            "unexpected tensor '.*experts.8.up_proj",
        ),
        (
            "model.layers.1.mlp.experts.3.up_proj.weight",
            torch.ones(23, 32),
            r"experts.3.up_proj.weight' has shape \(23, 32\), config.json asks for \(24, 32\)",
        ),
        (
            "model.layers.0.attention.query_key_value.weight",
            torch.ones(127, 32),
            r"query_key_value.weight' has shape \(127, 32\), config.json asks for \(128, 32\)",
        ),
    ],
)
def test_stacked_and_fused_tensors_are_checked(
    name: str, tensor: torch.Tensor | None, message: str, tmp_path: Path
) -> None:
    save_model(family_model("llada2"), tmp_path)
    spoil(tmp_path, name, tensor)
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path)


def test_experts_of_several_formats_are_refused_or_converted(tmp_path: Path) -> None:
    save_model(family_model("sdar_moe"), tmp_path)
    name = "model.layers.0.mlp.experts.2.up_proj.weight"
    spoil(tmp_path, name, torch.ones(24, 32, dtype=torch.bfloat16))
    with pytest.raises(ValueError, match=r"experts.up.weight: experts in torch.float32 and in"):
        load_model(tmp_path, dtype=None)
    assert load_model(tmp_path, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_every_family_has_a_toy() -> None:
    assert sorted(FAMILY_CHANGES) == NAMES
