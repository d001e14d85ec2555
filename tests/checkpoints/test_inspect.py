"""A checkpoint is described from its headers; whatever is wrong with it is found, and has a way out."""

import json
import math
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.checkpoints.test_checkpoint import BROKEN, edit, rewrite
from tests.models.toy import GOLDEN
from unmask.checkpoints.checkpoint import load_model, save_model
from unmask.checkpoints.inspect import Inspection, inspect_checkpoint
from unmask.checkpoints.memory import meta_model
from unmask.checkpoints.random_init import byte_tokenizer, init, random_spec
from unmask.checkpoints.tokenizer import character_tokenizer
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
    """A checkpoint with nothing wrong about it."""
    init(tmp_path / "whole", "sdar")
    (tmp_path / "whole" / "chat_template.jinja").write_text("{{ messages[0].content }}")
    return tmp_path / "whole"


def subjects(found: Inspection) -> list[str]:
    return [problem.subject for problem in found.problems]


def test_nothing_is_wrong(whole: Path) -> None:
    found = inspect_checkpoint(whole)
    assert found.loads and not found.problems
    model = load_model(whole)
    assert found.spec == model.spec
    assert found.num_parameters == sum(p.numel() for p in model.parameters())
    assert found.stored == {"float32": found.num_parameters} and found.num_files == 1
    assert found.stored_bytes == (whole / WEIGHTS).stat().st_size
    assert found.has_chat_template and found.num_token_ids == 258
    assert [(t.role, t.id, t.text, t.origin) for t in found.tokens] == [
        ("mask", 1, "<mask>", "config"),
        ("eos", 0, "<eos>", "config"),
        ("pad", 0, "<eos>", "tokenizer"),
    ]
    assert json.loads(json.dumps(found.to_dict()))["spec"]["mask_id"] == 1


def test_memory_is_for_as_many_tokens_as_asked(whole: Path) -> None:
    assert {row.num_tokens for row in inspect_checkpoint(whole).serving} == {2048}
    assert {row.num_tokens for row in inspect_checkpoint(whole, 5).serving} == {5}
    with pytest.raises(ValueError, match="tokens = -1"):
        inspect_checkpoint(whole, -1)


@pytest.mark.parametrize("family", [family.name for family in families()])
def test_golden_checkpoints_load(family: str) -> None:
    """They have no tokenizer and, some of them, no mask id: neither prevents loading."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what loading warns of is a finding here
        found = inspect_checkpoint(GOLDEN / family)
    assert found.loads and found.spec is not None and found.spec.family == family
    assert set(subjects(found)) <= {"tokenizer", "mask", "eos"}


def test_an_export_in_another_format_is_nothing_wrong(whole: Path, tmp_path: Path) -> None:
    save_model(load_model(whole, dtype=torch.bfloat16), tmp_path / "narrow", source=whole)
    found = inspect_checkpoint(tmp_path / "narrow")
    assert not found.problems and list(found.stored) == ["bfloat16"]


@pytest.mark.parametrize("name", BROKEN)
def test_what_does_not_load_is_found(golden: Path, name: str) -> None:
    spoil, message = BROKEN[name]
    spoil(golden)
    with pytest.raises(ValueError, match=message):
        load_model(golden)
    found = inspect_checkpoint(golden)
    assert not found.loads
    first = found.problems[0]
    assert first.prevents_loading and first.way_out
    with pytest.raises(ValueError, match=message):
        raise ValueError("\n".join(p.found for p in found.problems if p.prevents_loading))


def test_one_finding_does_not_hide_another(golden: Path) -> None:
    edit(golden / "config.json", hidden_size=None)
    (golden / WEIGHTS).write_bytes((golden / WEIGHTS).read_bytes()[:-8])
    (golden / "tokenizer.json").write_text("{}")
    found = inspect_checkpoint(golden)
    assert subjects(found) == ["tokenizer", "config", "weights"]
    assert all(problem.prevents_loading for problem in found.problems)


def test_every_tensor_that_is_wrong_is_named(golden: Path) -> None:
    rewrite(lambda t: (t.pop("lm_head.weight"), t.update(x=torch.ones(1))))(golden)
    found = inspect_checkpoint(golden)
    assert [p.found.split(": ")[1] for p in found.problems if p.subject == "weights"] == [
        "unexpected tensor 'x'",
        "missing tensor 'lm_head.weight'",
    ]


def without_mask(directory: Path) -> None:
    edit(directory / "config.json", mask_token_id=None)
    edit(directory / "tokenizer_config.json", mask_token=None)


def without_eos(directory: Path) -> None:
    edit(directory / "config.json", eos_token_id=None)
    edit(directory / "tokenizer_config.json", eos_token=None)


def narrow(directory: Path) -> None:
    tensors = load_file(directory / WEIGHTS)
    save_file({name: t.bfloat16() for name, t in tensors.items()}, directory / WEIGHTS)


NOTES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "no mask": (without_mask, "mask", "no mask id: neither config.json nor the tokenizer"),
    "two masks": (
        lambda d: edit(d / "config.json", mask_token_id=7),
        "mask",
        "config.json says 7, the tokenizer 1",
    ),
    "no eos": (without_eos, "eos", "nobody says which token ends a text"),
    "eos outside": (
        lambda d: edit(d / "config.json", eos_token_id=[0, 999]),
        "eos",
        "999 is outside the 258 ids",
    ),
    "no template": (
        lambda d: (d / "chat_template.jinja").unlink(),
        "chat template",
        "none",
    ),
    "no tokenizer": (
        lambda d: (d / "tokenizer.json").unlink(),
        "tokenizer",
        "no tokenizer.json",
    ),
    "larger tokenizer": (
        lambda d: character_tokenizer("".join(map(chr, range(300, 600))), d),
        "tokenizer",
        "it has 302 ids, the model 258 rows",
    ),
    "other format": (
        narrow,
        "number format",
        "config.json states float32, the files hold bfloat16",
    ),
}


@pytest.mark.parametrize("name", NOTES)
def test_what_loads_but_is_odd_is_noted(whole: Path, name: str) -> None:
    spoil, subject, text = NOTES[name]
    spoil(whole)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load_model(whole)
    found = inspect_checkpoint(whole)
    assert found.loads
    (problem,) = found.problems
    assert problem.subject == subject and text in problem.found and problem.way_out


def test_a_mask_without_a_text_is_noted(whole: Path) -> None:
    byte_tokenizer(whole, has_mask=False)
    edit(whole / "config.json", mask_token_id=257)
    found = inspect_checkpoint(whole)
    assert found.tokens[0].text is None
    assert subjects(found) == ["mask"]


def test_a_mask_outside_does_not_load(whole: Path) -> None:
    edit(whole / "config.json", mask_token_id=258)
    found = inspect_checkpoint(whole)
    assert [p.subject for p in found.problems] == ["config"] and not found.loads
    assert "258" in found.problems[0].found


def test_what_could_be_converted_is_said(golden: Path) -> None:
    edit(golden / "config.json", architectures=["Qwen2ForCausalLM"], model_type="qwen2")
    problem = inspect_checkpoint(golden).problems[0]
    assert problem.way_out.endswith(f"unmask convert {golden} DESTINATION --to sdar")


def test_shards_are_one_checkpoint(whole: Path, tmp_path: Path) -> None:
    save_model(load_model(whole), tmp_path / "sharded", max_shard_bytes=100_000)
    found = inspect_checkpoint(tmp_path / "sharded")
    assert not found.problems and found.num_files > 3
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
    """Files of 30 GiB that take no place on the disk: reading them would take minutes, and the memory."""
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
