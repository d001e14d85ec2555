"""A random model of every family: its config, its tensor names, the same bytes for the same seed."""

from pathlib import Path

import pytest
import torch

from unmask.checkpoints.checkpoint import load_model
from unmask.checkpoints.memory import count_parameters, meta_model
from unmask.checkpoints.random_init import SIZES, byte_tokenizer, init, random_spec
from unmask.checkpoints.tokenizer import decode, encode, load_tokenizer
from unmask.models.families import families, family_named

NAMES = [family.name for family in families()]


@pytest.mark.parametrize("family", NAMES)
@pytest.mark.parametrize("size", SIZES)
def test_a_config_states_the_whole_spec(family: str, size: str) -> None:
    spec = random_spec(family, size, 258)
    assert family_named(family).read_spec(family_named(family).new_config(spec)) == spec


@pytest.mark.parametrize("family", NAMES)
def test_sizes(family: str) -> None:
    counts = [count_parameters(meta_model(random_spec(family, size, 258)))[0] for size in SIZES]
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
        torch.manual_seed(seed + len(name) + ord(name))  # the global generator has no effect
        init(tmp_path / name, "sdar_moe", seed=seed)
    a, b, c = (files(tmp_path / name) for name in "abc")
    assert a == b
    assert {name for name in a if a[name] != c[name]} == {"model.safetensors"}


@pytest.mark.parametrize(
    ("family", "size", "message"),
    [
        ("sdra", "tiny", "family = 'sdra': must be one of dream, .*llada"),
        ("sdar", "huge", "size = 'huge': must be one of tiny, small, medium"),
        ("no_module:FAMILY", "tiny", "family = 'no_module:FAMILY': there is no module"),
        ("unmask.models.families.sdar:FAMILY", "tiny", "the name of the family and of its specs"),
        ("unmask.models.families:families", "tiny", "must be a Family, found function"),
    ],
)
def test_an_unknown_family_or_size_is_refused(
    family: str, size: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        init(tmp_path / "model", family, size)
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
