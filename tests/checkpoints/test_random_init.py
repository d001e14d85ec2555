"""A random model of every family: its own config, its own tensor names, the same bytes for the same seed."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from unmask.checkpoints.checkpoint import load_model
from unmask.checkpoints.memory import count_parameters, meta_model
from unmask.checkpoints.random_init import SIZES, TRAITS, Shape, byte_tokenizer, fresh_spec, init
from unmask.checkpoints.tokenizer import decode, encode, load_tokenizer
from unmask.models.families import FAMILIES, family_named

NAMES = [family.name for family in FAMILIES]


def test_every_family_has_its_traits() -> None:
    assert TRAITS.keys() == set(NAMES)


@pytest.mark.parametrize("family", NAMES)
@pytest.mark.parametrize("size", SIZES)
def test_a_config_says_the_whole_spec(family: str, size: str) -> None:
    spec = fresh_spec(family, size, 258)
    assert family_named(family).read_spec(family_named(family).new_config(spec)) == spec


@pytest.mark.parametrize("family", NAMES)
def test_sizes(family: str) -> None:
    counts = [count_parameters(meta_model(fresh_spec(family, size, 258)))[0] for size in SIZES]
    assert counts[0] < 1e6 and 20e6 < counts[1] < 30e6 < counts[2]


@pytest.mark.parametrize("family", NAMES)
def test_a_model_loads_and_is_random(family: str, tmp_path: Path) -> None:
    made = init(tmp_path / "model", family, seed=3)
    loaded = load_model(tmp_path / "model")
    assert loaded.spec == made.spec and loaded.spec.family == family
    ids = torch.arange(20)[None]
    logits = loaded.logits(ids)
    assert logits.equal(made.logits(ids)) and 0.3 < logits.std() < 3
    if loaded.spec.moe is not None:
        assert any(".experts." in name for name, _ in loaded.named_parameters())


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.manual_seed(seed + len(name) + ord(name))  # the global generator has no say
        init(tmp_path / name, "sdar_moe", seed=seed)
    a, b, c = (files(tmp_path / name) for name in "abc")
    assert a == b
    assert {name for name in a if a[name] != c[name]} == {"model.safetensors"}


def test_every_number_can_be_changed() -> None:
    changes: dict[str, Any] = {
        "layers": 3,
        "width": 96,
        "heads": 6,
        "kv_heads": 3,
        "ffn_width": 80,
        "experts": 16,
        "active_experts": 3,
        "expert_width": 24,
        "head_width": 32,
        "max_length": 77,
        "block_size": 16,
        "tied": True,
    }
    assert changes.keys() == {f.name for f in fields(Shape)}
    spec = fresh_spec("llada2", "tiny", 40, **changes)
    assert (spec.num_layers, spec.width, spec.num_heads, spec.num_kv_heads) == (3, 96, 6, 3)
    assert (spec.head_width, spec.rotary_width, spec.ffn_width) == (32, 16, 80)
    assert (spec.max_length, spec.block_size, spec.is_tied) == (77, 16, True)
    assert spec.moe is not None and spec.moe.layers == (1, 2)
    assert (spec.moe.num_experts, spec.moe.num_active, spec.moe.width) == (16, 3, 24)
    assert fresh_spec("llada2", "tiny", 40, layers=None) == fresh_spec("llada2", "tiny", 40)


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("sdra", {}, "family = 'sdra': must be one of .*llada"),
        ("sdar", {"size": "huge"}, "size = 'huge': must be one of tiny, small, medium"),
        ("sdar", {"layers": 0}, "layers = 0: must be at least 1"),
        ("sdar", {"kv_heads": 3}, "kv_heads = 3: 4 heads"),
        ("sdar", {"heads": 5}, "heads = 5: must divide width = 64"),
        ("sdar", {"head_width": 15}, "head_width = 15.*even number"),
        ("sdar", {"block_size": -1}, "block_size = -1"),
        ("llada", {"head_width": 32}, "head_width = 32: the config of llada"),
        ("llada", {"block_size": 8}, "block_size = 8: the config of llada"),
        ("llada2", {"head_width": 6}, "rotates 3 dimensions"),
        ("llada2", {"layers": 1}, "layers = 1: llada2 has 1 dense, then experts"),
        ("llada2", {"experts": 6}, "experts = 6: must be a multiple of 8 for llada2"),
        ("llada2", {"active_experts": 5}, "active_experts = 5: must lie between 2 and 4"),
        ("llada_moe", {"active_experts": 9}, "active_experts = 9: must lie between 1 and 8"),
    ],
)
def test_what_no_model_can_be_is_refused(
    family: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        init(tmp_path / "model", family, **changes)
    assert not (tmp_path / "model").exists()


def test_a_destination_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(ValueError, match="is there already"):
        init(tmp_path, "sdar")


@pytest.mark.parametrize("text", ["", "hello\n", "naïve  日本 \t", "<eos>x<mask>"])
def test_bytes_are_tokens(text: str, tmp_path: Path) -> None:
    tokenizer = byte_tokenizer(tmp_path)
    ids = encode(text, tokenizer)
    plain = text.replace("<eos>", "").replace("<mask>", "")
    assert len(ids) == len(plain.encode()) + text.count("<")
    assert decode(ids, tokenizer) == plain
    assert (tokenizer.eos_token_id, tokenizer.mask_token_id) == (0, 1)


def test_characters_are_tokens(tmp_path: Path) -> None:
    model = init(tmp_path / "model", "dream", alphabet="0123456789+")
    assert model.spec.vocab_size == 13
    tokenizer = load_tokenizer(tmp_path / "model")
    assert encode("1+2", tokenizer) == [3, 12, 4]
