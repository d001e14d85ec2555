"""A checkpoint is described from its headers, with every error that loading it raises."""

import json
import math
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch

from tests.checkpoints.test_checkpoint import BROKEN, edit, rewrite
from tests.models.toy import GOLDEN
from unmask.checkpoints.checkpoint import load_model, save_model
from unmask.checkpoints.inspect import inspect_checkpoint
from unmask.checkpoints.memory import meta_model
from unmask.checkpoints.random_init import init, random_spec
from unmask.checkpoints.weights import held_tensors, stored_parts
from unmask.models.families import families, family_named

WEIGHTS = "model.safetensors"


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """A writable copy of the golden SDAR checkpoint, which has no tokenizer."""
    directory = tmp_path / "golden"
    directory.mkdir()
    for name in ("config.json", WEIGHTS):
        shutil.copyfile(GOLDEN / "sdar" / name, directory / name)
    return directory


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A checkpoint without errors."""
    init(tmp_path / "whole", "sdar")
    (tmp_path / "whole" / "chat_template.jinja").write_text("{{ messages[0].content }}")
    return tmp_path / "whole"


def test_a_whole_checkpoint_has_no_errors(whole: Path) -> None:
    found = inspect_checkpoint(whole)
    assert found.loads and not found.warnings
    model = load_model(whole)
    assert found.spec == model.spec
    assert found.num_parameters == sum(p.numel() for p in model.parameters())
    assert found.stored == {"float32": found.num_parameters} and found.num_files == 1
    assert found.stored_bytes == (whole / WEIGHTS).stat().st_size
    assert found.has_chat_template and found.num_token_ids == 258
    assert json.loads(json.dumps(found.to_dict()))["spec"]["mask_id"] == 1


def test_memory_is_for_as_many_tokens_as_asked(whole: Path) -> None:
    assert {row.num_tokens for row in inspect_checkpoint(whole).memory} == {2048}
    assert {row.num_tokens for row in inspect_checkpoint(whole, 5).memory} == {5}
    with pytest.raises(ValueError, match="tokens = -1"):
        inspect_checkpoint(whole, -1)


@pytest.mark.parametrize("family", [family.name for family in families()])
def test_golden_checkpoints_load(family: str) -> None:
    """Most have no tokenizer and some of them no mask id: neither prevents loading."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning of loading fails the test
        found = inspect_checkpoint(GOLDEN / family)
    assert found.loads and found.spec is not None and found.spec.family == family
    assert (found.num_token_ids is None) is (family != "lladav")
    assert bool(found.warnings) is (found.spec.mask_id is None)


def test_an_export_in_another_format_has_no_errors(whole: Path, tmp_path: Path) -> None:
    save_model(load_model(whole, dtype=torch.bfloat16), tmp_path / "narrow", source=whole)
    found = inspect_checkpoint(tmp_path / "narrow")
    assert found.loads and list(found.stored) == ["bfloat16"]


@pytest.mark.parametrize("name", BROKEN)
def test_the_errors_are_those_of_loading(golden: Path, name: str) -> None:
    spoil, message = BROKEN[name]
    spoil(golden)
    with pytest.raises(ValueError, match=message):
        load_model(golden)
    found = inspect_checkpoint(golden)
    assert not found.loads
    with pytest.raises(ValueError, match=message):
        raise ValueError("\n".join(found.errors))


def test_one_finding_does_not_hide_another(golden: Path) -> None:
    edit(golden / "config.json", hidden_size=None)
    (golden / WEIGHTS).write_bytes((golden / WEIGHTS).read_bytes()[:-8])
    (golden / "tokenizer.json").write_text("{}")
    found = inspect_checkpoint(golden)
    for error, part in zip(found.errors, ("tokenizer", "hidden_size", WEIGHTS), strict=True):
        assert part in error


def test_every_tensor_that_is_wrong_is_named(golden: Path) -> None:
    rewrite(lambda t: (t.pop("lm_head.weight"), t.update(x=torch.ones(1))))(golden)
    found = inspect_checkpoint(golden)
    assert [error.split(": ")[1] for error in found.errors] == [
        "unexpected tensor 'x'",
        "missing tensor 'lm_head.weight'",
    ]


def test_a_warning_of_loading_is_shown(whole: Path) -> None:
    edit(whole / "config.json", mask_token_id=None)
    edit(whole / "tokenizer_config.json", mask_token=None)
    found = inspect_checkpoint(whole)
    assert found.loads and found.spec is not None and found.spec.mask_id is None
    (warning,) = found.warnings
    assert "no mask id: neither config.json nor the tokenizer" in warning


def test_a_mask_outside_does_not_load(whole: Path) -> None:
    edit(whole / "config.json", mask_token_id=258)
    found = inspect_checkpoint(whole)
    (error,) = found.errors
    assert "258" in error and not found.loads


def test_an_autoregressive_checkpoint_names_convert(golden: Path) -> None:
    edit(golden / "config.json", architectures=["Qwen2ForCausalLM"], model_type="qwen2")
    (error, *_) = inspect_checkpoint(golden).errors
    assert "'Qwen2ForCausalLM'" in error and "`unmask convert`" in error


def test_shards_are_one_checkpoint(whole: Path, tmp_path: Path) -> None:
    save_model(load_model(whole), tmp_path / "sharded", max_shard_bytes=100_000)
    found = inspect_checkpoint(tmp_path / "sharded")
    assert found.loads and found.num_files > 3
    assert sum(found.stored.values()) == found.num_parameters


def test_a_hub_id(golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    cached = tmp_path / "models--JetLM--tiny"
    shutil.copytree(golden, cached / "snapshots" / ("0" * 40))
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0" * 40)
    assert inspect_checkpoint("JetLM/tiny").loads
    with pytest.raises(ValueError, match="nobody/nothing"):
        inspect_checkpoint("nobody/nothing")


def test_no_weight_is_read(whole: Path) -> None:
    """Sparse files of 30 GiB: reading them would take minutes and all memory."""
    medium = random_spec("sdar", "medium", 258)
    spec = replace(medium, num_layers=40, width=6144, num_heads=96, num_kv_heads=8, ffn_width=8192)
    edit(whole / "config.json", **family_named("sdar").new_config(spec))
    (whole / WEIGHTS).unlink()
    model = meta_model(spec)
    held = held_tensors(model)
    weight_map: dict[str, str] = {}
    for name, parts in stored_parts(model).items():
        shape = list(parts[0].of(held).shape)
        entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, 4 * math.prod(shape)]}
        text = json.dumps({name: entry}).encode()
        weight_map[name] = f"{name}.safetensors"
        with (whole / weight_map[name]).open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + 4 * math.prod(shape))
    (whole / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    found = inspect_checkpoint(whole)
    assert found.loads and found.stored_bytes > 30 * 2**30
