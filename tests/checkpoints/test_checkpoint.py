"""Directories are read and written without a lost bit; every broken directory is one clear error."""

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models.toy import GOLDEN, toy_model, toy_spec
from unmask.checkpoints.checkpoint import find_checkpoint, load_model, read_spec, save_model
from unmask.checkpoints.tokenizer import character_tokenizer, load_tokenizer

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """A writable copy of the golden SDAR checkpoint."""
    directory = tmp_path / "golden"
    directory.mkdir()
    for name in ("config.json", WEIGHTS):
        shutil.copyfile(GOLDEN / "sdar" / name, directory / name)
    return directory


def edit(file: Path, **changes: Any) -> None:
    """Set keys of a JSON file; `None` removes one."""
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def assert_same_weights(directory: Path, other: Path) -> None:
    ours, theirs = load_model(directory, dtype=None), load_model(other, dtype=None)
    pairs = zip(ours.named_parameters(), theirs.named_parameters(), strict=True)
    for (name, a), (other_name, b) in pairs:
        assert name == other_name and a.dtype == b.dtype and torch.equal(a, b)


def test_save_load_save_is_the_same_to_the_byte(golden: Path, tmp_path: Path) -> None:
    (golden / "modeling_sdar.py").write_bytes(b"raise RuntimeError('never imported')\r\n")
    (golden / "generation_config.json").write_text('{"eos_token_id": [301, 300]}')
    (golden / "notes.txt").write_text("not part of a checkpoint")
    first, second = tmp_path / "first", tmp_path / "second"
    save_model(load_model(golden), first)
    save_model(load_model(first), second)

    assert (first / WEIGHTS).read_bytes() == (second / WEIGHTS).read_bytes()
    source, saved = load_file(golden / WEIGHTS), load_file(first / WEIGHTS)
    assert source.keys() == saved.keys()
    assert all(source[name].equal(saved[name]) for name in source)
    config = json.loads((golden / "config.json").read_text())
    assert json.loads((second / "config.json").read_text()) == config and "auto_map" in config
    for name in ("modeling_sdar.py", "generation_config.json"):
        assert (second / name).read_bytes() == (golden / name).read_bytes()
    assert not (second / "notes.txt").exists()


def test_shards(golden: Path, tmp_path: Path) -> None:
    model, sharded = load_model(golden), tmp_path / "sharded"
    save_model(model, sharded, max_shard_bytes=100_000)
    files = sorted(file.name for file in sharded.glob("*.safetensors"))
    index = json.loads((sharded / INDEX).read_text())
    assert len(files) > 3 and files == sorted(set(index["weight_map"].values()))
    assert_same_weights(sharded, golden)

    save_model(load_model(sharded), sharded)  # over itself, in one file: no stale shard remains
    assert sorted(file.name for file in sharded.glob("model*")) == [WEIGHTS]
    assert_same_weights(sharded, golden)


@pytest.mark.parametrize("holds_head", [False, True])
def test_tied_embeddings(tmp_path: Path, holds_head: bool) -> None:
    model = toy_model(is_tied=True)
    save_model(model, tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    assert "lm_head.weight" not in tensors
    if holds_head:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        save_file(tensors, tmp_path / WEIGHTS)
    loaded = load_model(tmp_path)
    assert loaded.head.projection.weight is loaded.backbone.embedding.weight
    ids = torch.arange(12)[None]
    assert loaded.logits(ids).equal(model.logits(ids))


def test_a_model_from_scratch(tmp_path: Path) -> None:
    model = toy_model(has_qkv_bias=True, block_size=8)
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.spec == model.spec and loaded.source == tmp_path and model.source is None
    released = json.loads((GOLDEN / "sdar" / "config.json").read_text())
    config = json.loads((tmp_path / "config.json").read_text())
    assert released.keys() - config.keys() == {"auto_map", "transformers_version"}
    assert config.keys() <= released.keys()


def test_a_model_from_scratch_takes_the_tokenizer_of_its_source(tmp_path: Path) -> None:
    tokenizer = character_tokenizer("0123456789", tmp_path / "tokenizer")
    save_model(toy_model(mask_id=1), tmp_path / "model", source=tmp_path / "tokenizer")
    assert load_tokenizer(tmp_path / "model").get_vocab() == tokenizer.get_vocab()
    assert load_model(tmp_path / "model").head.drawable.nonzero().flatten().tolist() == [
        0,
        *range(2, 12),
    ]


def test_number_formats(golden: Path, tmp_path: Path) -> None:
    narrow = load_model(golden, dtype=torch.bfloat16)
    assert {p.dtype for p in narrow.parameters()} == {torch.bfloat16}
    assert narrow.logits(torch.arange(8)[None]).dtype == torch.float32

    save_model(narrow, tmp_path / "narrow")
    config = json.loads((tmp_path / "narrow" / "config.json").read_text())
    assert config["torch_dtype"] == "bfloat16" and "dtype" not in config
    assert load_model(tmp_path / "narrow").dtype == torch.float32
    assert load_model(tmp_path / "narrow", dtype=None).dtype == torch.bfloat16
    assert load_model(tmp_path / "narrow", dtype="auto").dtype == torch.bfloat16
    edit(golden / "config.json", dtype="float64")
    assert load_model(golden, dtype="auto").dtype == torch.float64
    edit(golden / "config.json", dtype="float65")
    with pytest.raises(ValueError, match="float65"):
        load_model(golden, dtype="auto")


def test_loading_imports_nothing_large() -> None:
    """A normal draw on the meta device is enough for the compiler, `empty_like` from it for sympy."""
    code = (
        "import sys, unmask; unmask.load_model(sys.argv[1], mask_id=310); "
        "print([m for m in ('torch._dynamo', 'sympy', 'transformers') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(GOLDEN / "llada2")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_weights_do_not_live_in_the_file(golden: Path) -> None:
    model = load_model(golden)
    before = model.backbone.embedding.weight.clone()
    (golden / WEIGHTS).write_bytes(b"")
    assert model.backbone.embedding.weight.equal(before)
    assert all(parameter.data_ptr() % 64 == 0 for parameter in model.parameters())


def test_the_mask_id_has_four_sources(golden: Path) -> None:
    assert read_spec(golden, mask_id=5).mask_id == 5
    assert read_spec(golden).mask_id == 310  # config.json
    character_tokenizer("0123456789", golden)
    assert read_spec(golden).mask_id == 310
    edit(golden / "config.json", mask_token_id=None)
    assert read_spec(golden).mask_id == 1  # tokenizer
    edit(golden / "tokenizer_config.json", mask_token=None)
    with pytest.warns(UserWarning, match=r"151669.*outside the 320 ids"):
        model = load_model(golden)
    with pytest.raises(ValueError, match="mask_id is unknown"):
        model.spec.require_mask_id()
    assert read_spec(golden, mask_id=7).mask_id == 7
    edit(golden / "config.json", vocab_size=151936)
    assert read_spec(golden).mask_id == 151669  # the family's default


def test_a_mask_id_must_be_in_the_vocabulary(golden: Path) -> None:
    with pytest.raises(ValueError, match="mask_id = 320"):
        load_model(golden, mask_id=320)
    edit(golden / "config.json", mask_token_id=-1)
    with pytest.raises(ValueError, match=r"config\.json.* = -1"):
        load_model(golden)
    assert load_model(golden, mask_id=310).spec.mask_id == 310


def test_what_the_caller_overrides_is_exported(golden: Path, tmp_path: Path) -> None:
    save_model(load_model(golden, mask_id=5, block_size=8), tmp_path / "saved")
    spec = load_model(tmp_path / "saved").spec
    assert (spec.mask_id, spec.block_size) == (5, 8)
    with pytest.raises(ValueError, match="block_size = 0"):
        load_model(golden, block_size=0)


@pytest.mark.parametrize("has_tokenizer", [False, True])
def test_a_mask_id_that_the_files_do_not_state_is_exported(
    has_tokenizer: bool, golden: Path, tmp_path: Path
) -> None:
    edit(golden / "config.json", mask_token_id=None)
    if has_tokenizer:
        character_tokenizer("0123456789", golden)  # its mask id is 1
    model = load_model(golden, mask_id=7)
    save_model(model, tmp_path / "saved")
    assert load_model(tmp_path / "saved").spec == model.spec
    assert model.spec.mask_id == 7


def test_a_mask_id_that_the_files_state_adds_no_field(golden: Path, tmp_path: Path) -> None:
    edit(golden / "config.json", mask_token_id=None)
    character_tokenizer("0123456789", golden)
    save_model(load_model(golden), tmp_path / "saved")
    saved, source = (
        json.loads((d / "config.json").read_text()) for d in (tmp_path / "saved", golden)
    )
    assert saved == source and "mask_token_id" not in saved


def test_the_tokenizer_bounds_what_may_be_drawn(golden: Path) -> None:
    assert read_spec(golden).num_drawable == 320
    character_tokenizer("0123456789", golden)
    assert read_spec(golden).num_drawable == 12
    character_tokenizer("".join(map(chr, range(1000, 2000))), golden)
    assert read_spec(golden).num_drawable == 320


def test_ids_that_end_a_text(golden: Path) -> None:
    assert read_spec(golden).eos_ids == (300,)
    (golden / "generation_config.json").write_text('{"eos_token_id": [301, 300]}')
    assert read_spec(golden).eos_ids == (301, 300)
    (golden / "generation_config.json").write_text('{"eos_token_id": 302}')
    assert read_spec(golden).eos_ids == (302, 300)
    (golden / "generation_config.json").unlink()
    edit(golden / "config.json", eos_token_id=None)
    assert read_spec(golden).eos_ids == ()
    character_tokenizer("0123456789", golden)
    assert read_spec(golden).eos_ids == (0,)


def rewrite(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    """Return a function that changes the tensors of a checkpoint directory."""

    def apply(directory: Path) -> None:
        tensors = load_file(directory / WEIGHTS)
        change(tensors)
        save_file(tensors, directory / WEIGHTS)

    return apply


def shard_that_is_missing(directory: Path) -> None:
    (directory / WEIGHTS).unlink()
    (directory / INDEX).write_text('{"weight_map": {"lm_head.weight": "model-2.safetensors"}}')


def in_shards(
    index: Callable[[dict[str, Any]], object] = lambda m: None,
    second: Callable[[dict[str, torch.Tensor]], object] = lambda t: None,
) -> Callable[[Path], None]:
    """Return a function that splits a checkpoint in two and changes its index and second shard."""

    def apply(directory: Path) -> None:
        tensors = load_file(directory / WEIGHTS)
        names = sorted(tensors)
        shards = {"1.safetensors": names[::2], "2.safetensors": names[1::2]}
        weight_map: dict[str, Any] = {name: file for file, held in shards.items() for name in held}
        for file, held in shards.items():
            part = {name: tensors[name] for name in held}
            if file == "2.safetensors":
                second(part)
            save_file(part, directory / file)
        index(weight_map)
        (directory / INDEX).write_text(json.dumps({"weight_map": weight_map}))
        (directory / WEIGHTS).unlink()

    return apply


def repeated_key(directory: Path) -> None:
    in_shards()(directory)
    text = (directory / INDEX).read_text()
    again = '{"weight_map": {"lm_head.weight": "2.safetensors", '
    (directory / INDEX).write_text(text.replace('{"weight_map": {', again))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "shape": (
        rewrite(lambda t: t.update({"model.norm.weight": torch.ones(65)})),
        r"model\.safetensors: tensor 'model\.norm\.weight' has shape \(65,\).* \(64,\)",
    ),
    "missing": (rewrite(lambda t: t.pop("lm_head.weight")), "missing tensor 'lm_head.weight'"),
    "unexpected": (
        rewrite(lambda t: t.update({"model.extra": torch.ones(1)})),
        r"model\.safetensors: unexpected tensor 'model\.extra'",
    ),
    "bias of another family": (
        rewrite(lambda t: t.update({"model.layers.0.self_attn.o_proj.bias": torch.ones(64)})),
        "unexpected tensor 'model.layers.0.self_attn.o_proj.bias'",
    ),
    "truncated": (
        lambda d: (d / WEIGHTS).write_bytes((d / WEIGHTS).read_bytes()[:-8]),
        r"model\.safetensors is not a whole safetensors file",
    ),
    "no weights": (lambda d: (d / WEIGHTS).unlink(), "neither model.safetensors nor"),
    "pickle": (
        lambda d: (d / WEIGHTS).rename(d / "pytorch_model.bin"),
        "pickled weights are not read",
    ),
    "missing shard": (shard_that_is_missing, r"index\.json names model-2\.safetensors"),
    "a tensor in two shards": (
        in_shards(second=lambda t: t.update({"lm_head.weight": torch.ones(1)})),
        r"2\.safetensors: holds tensor 'lm_head\.weight', which .* assigns to 1\.safetensors",
    ),
    "a tensor in another shard than the index says": (
        in_shards(index=lambda m: m.update({"lm_head.weight": "2.safetensors"})),
        r"1\.safetensors: holds tensor 'lm_head\.weight', which .* assigns to 2\.safetensors",
    ),
    "a tensor that the index leaves out": (
        in_shards(index=lambda m: m.pop("lm_head.weight")),
        r"1\.safetensors: holds tensor 'lm_head\.weight', which .* assigns to no file",
    ),
    "a tensor that its shard lacks": (
        in_shards(index=lambda m: m.update({"other": "2.safetensors"})),
        r"index\.json: assigns tensor 'other' to 2\.safetensors, which lacks it",
    ),
    "a shard in another folder": (
        in_shards(index=lambda m: m.update({"lm_head.weight": "../golden/1.safetensors"})),
        r"index\.json names '\.\./golden/1\.safetensors': must be a safetensors file in the same directory",
    ),
    "a shard by an absolute path": (
        in_shards(index=lambda m: m.update({"lm_head.weight": "/etc/passwd"})),
        r"index\.json names '/etc/passwd': must be",
    ),
    "a shard without a name": (
        in_shards(index=lambda m: m.update({"lm_head.weight": 3})),
        r"index\.json: weight_map\.lm_head\.weight = 3: must be a valid string",
    ),
    "an index of nothing": (
        in_shards(index=lambda m: m.clear()),
        r"index\.json: weight_map is missing or empty",
    ),
    "a key twice in an index": (repeated_key, r"index\.json: not JSON: the key 'lm_head.weight'"),
    "one file and an index of others": (
        lambda d: (in_shards()(d), shutil.copyfile(d / "1.safetensors", d / WEIGHTS)),
        r"holds model\.safetensors and an .*index\.json of other files: remove the one",
    ),
    "integer weights": (
        rewrite(lambda t: t.update({"lm_head.weight": t["lm_head.weight"].to(torch.int32)})),
        r"tensor 'lm_head\.weight' is stored as I32: only F64, F32, F16, BF16 are read",
    ),
    "bytes for weights": (
        rewrite(lambda t: t.update({"lm_head.weight": t["lm_head.weight"].to(torch.uint8)})),
        r"tensor 'lm_head\.weight' is stored as U8: only",
    ),
    "no config": (lambda d: (d / "config.json").unlink(), "it has no config.json"),
    "config is not JSON": (
        lambda d: (d / "config.json").write_text("{"),
        r"config\.json: not JSON",
    ),
    "config is a list": (
        lambda d: (d / "config.json").write_text("[]"),
        r"config\.json: expected a JSON object",
    ),
    "missing key": (
        lambda d: edit(d / "config.json", hidden_size=None),
        r"config\.json lacks the key 'hidden_size'",
    ),
    "unknown family": (
        lambda d: edit(d / "config.json", architectures=["LlamaForCausalLM"]),
        "no family has the architecture 'LlamaForCausalLM'; supported: .*SDARForCausalLM",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_directory_is_one_error(golden: Path, name: str) -> None:
    spoil, message = BROKEN[name]
    spoil(golden)
    with pytest.raises(ValueError, match=message):
        load_model(golden)


def test_tables_of_rotary_angles_are_left_alone(golden: Path) -> None:
    before = load_model(golden)
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    in_shards(
        index=lambda m: m.update({name: "2.safetensors"}),
        second=lambda t: t.update({name: torch.ones(8)}),
    )(golden)
    after = load_model(golden)
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_generation_config_is_read_for_its_stops_alone(golden: Path) -> None:
    file = golden / "generation_config.json"
    file.write_text('{"num_beams": 1, "do_sample": true, "temperature": 0.3, "eos_token_id": 7}')
    assert 7 in read_spec(golden).eos_ids
    file.write_text('{"eos_token_id": [7, "x"]}')
    with pytest.raises(ValueError, match=r"generation_config\.json: eos_token_id\.1 = 'x'"):
        read_spec(golden)


def test_a_path_that_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "absent", tmp_path / "file", "no/such/place", "nobody/nothing"):
        with pytest.raises(ValueError, match=str(path)):
            load_model(path)


def test_a_hub_id_is_a_snapshot(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    cached = tmp_path / "models--JetLM--tiny"
    snapshot = cached / "snapshots" / ("0" * 40)
    shutil.copytree(golden, snapshot)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0" * 40)
    assert find_checkpoint("JetLM/tiny") == snapshot
    assert load_model("JetLM/tiny").source == snapshot


def test_loading_warns_of_nothing_else(golden: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_model(golden).spec == toy_spec(
            num_layers=3,
            width=64,
            head_width=32,
            ffn_width=112,
            vocab_size=320,
            max_length=512,
            rope_theta=1e6,
            mask_id=310,
            num_drawable=320,
            eos_ids=(300,),
        )


def test_a_run_given_as_a_model_names_its_model(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=f"{tmp_path} is a run; its model is {tmp_path / 'model'}"):
        find_checkpoint(tmp_path)


def test_a_path_that_is_not_there_is_not_asked_of_the_hub() -> None:
    with pytest.raises(ValueError, match=r"model\.path = absent: no such directory"):
        find_checkpoint("./absent")
