"""Autoregressive weights converted to diffusion: the same logits as `transformers`, in every pair of kinds."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from unmask.checkpoints import convert as module
from unmask.checkpoints.checkpoint import CONVERTED_FROM, load_model, save_model
from unmask.checkpoints.convert import convert, with_mask_row
from unmask.checkpoints.mask_token import MaskToken
from unmask.checkpoints.random_init import byte_tokenizer
from unmask.checkpoints.tokenizer import encode, load_tokenizer
from unmask.models.families.config_file import read_config

TARGETS = ("sdar", "dream")
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
SHAPE: dict[str, Any] = {
    "vocab_size": 272,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": 0,
}
WEIGHTS = "model.safetensors"


def write_source(directory: Path, kind: str, has_tokenizer: bool = True, **changes: Any) -> Any:
    """Write a random model of `transformers`, with a tokenizer of 257 ids, and return it."""
    fields = SHAPE | ({"head_dim": 8} if kind == "Qwen3" else {}) | changes
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}ForCausalLM")(
        getattr(transformers, f"{kind}Config")(**fields)
    )
    with torch.no_grad():
        for (
            parameter
        ) in model.parameters():  # biases and norms too: zeros and ones would hide a mix-up
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(directory, max_shard_size=changes.get("max_shard_size", "5GB"))
    if has_tokenizer:
        byte_tokenizer(directory, has_mask=False)
    return model.eval()


def gap(model: Any, directory: Path, length: int = 48) -> float:
    """Return the largest difference of causal logits, over the rows the source has and no mask."""
    loaded = load_model(directory)
    rows = torch.arange(SHAPE["vocab_size"])
    rows = rows[rows != loaded.spec.mask_id]
    ids = torch.randint(0, 257, (2, length), generator=torch.Generator().manual_seed(1))
    causal = torch.ones(length, length, dtype=torch.bool).tril()[None]
    with torch.no_grad():
        ours, theirs = loaded.logits(ids, allowed=causal), model(ids).logits
    assert theirs.std() > 0.5
    return float((ours[..., rows] - theirs[..., rows]).abs().max())


@pytest.mark.parametrize(("kind", "to"), list(product(("Qwen2", "Qwen3", "Llama"), TARGETS)))
def test_logits_are_those_of_transformers(kind: str, to: str, tmp_path: Path) -> None:
    model = write_source(tmp_path / "source", kind)
    done = convert(tmp_path / "source", tmp_path / "made", to)
    assert gap(model, tmp_path / "made") < 1e-4
    is_exact = (kind, to) in {("Qwen2", "dream"), ("Qwen3", "sdar"), ("Llama", "dream")}
    assert bool(done.only_here) is not is_exact

    spec = load_model(tmp_path / "made").spec
    assert spec == done.spec
    assert spec.family == to
    assert (spec.attention, spec.is_shifted, spec.block_size) == (
        ("block_causal", False, 4) if to == "sdar" else ("full", True, None)
    )
    assert (spec.mask_id, spec.num_drawable, spec.vocab_size) == (257, 258, 272)
    assert spec.eos_ids == (0,)


@pytest.mark.parametrize(("kind", "to"), [("Qwen3", "dream"), ("Llama", "sdar")])
def test_a_result_is_exported_and_read_again(kind: str, to: str, tmp_path: Path) -> None:
    model = write_source(tmp_path / "source", kind, head_dim=16)  # 4 heads of 16, not of 32 / 4
    done = convert(tmp_path / "source", tmp_path / "made", to)
    save_model(load_model(tmp_path / "made"), tmp_path / "saved")
    assert gap(model, tmp_path / "saved") < 1e-4
    if to == "dream":
        assert any("head_dim" in reason for reason in done.only_here)


@pytest.mark.parametrize("to", TARGETS)
def test_llama3_rope(to: str, tmp_path: Path) -> None:
    model = write_source(tmp_path / "source", "Llama", rope_parameters=LLAMA3)
    convert(tmp_path / "source", tmp_path / "made", to)
    assert gap(model, tmp_path / "made") < 1e-4
    config_file = tmp_path / "made" / "config.json"
    config = json.loads(config_file.read_text())
    assert config["rope_scaling"] == {k: v for k, v in LLAMA3.items() if k != "rope_theta"}
    config_file.write_text(json.dumps(config | {"rope_scaling": None}))
    assert gap(model, tmp_path / "made") > 1e-2  # the scaling has an effect


@pytest.mark.parametrize("kind", ["yarn", "linear"])
def test_another_rope_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    write_source(tmp_path / "source", "Llama", rope_parameters={**LLAMA3, "rope_type": kind})
    with pytest.raises(ValueError, match=f"rope type '{kind}'"):
        convert(tmp_path / "source", tmp_path / "made", "sdar")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("kind", ["Qwen2", "Llama"])
@pytest.mark.parametrize("holds_head", [False, True])
def test_tied_embeddings_stay_tied(kind: str, holds_head: bool, tmp_path: Path) -> None:
    model = write_source(tmp_path / "source", kind, tie_word_embeddings=True)
    if holds_head:
        tensors = load_file(tmp_path / "source" / WEIGHTS)
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        save_file(tensors, tmp_path / "source" / WEIGHTS)
    convert(tmp_path / "source", tmp_path / "made", "dream")
    assert "lm_head.weight" not in load_file(tmp_path / "made" / WEIGHTS)
    loaded = load_model(tmp_path / "made")
    assert loaded.spec.is_tied
    assert loaded.head.projection.weight is loaded.backbone.embedding.weight
    assert gap(model, tmp_path / "made") < 1e-4


def test_shards_keep_their_names(tmp_path: Path) -> None:
    model = write_source(tmp_path / "source", "Llama", max_shard_size="20KB")
    convert(tmp_path / "source", tmp_path / "made", "dream")
    names = [
        sorted(path.name for path in (tmp_path / d).glob("*.safetensors*"))
        for d in ("source", "made")
    ]
    assert names[0] == names[1] and len(names[0]) > 3
    index = json.loads((tmp_path / "made" / "model.safetensors.index.json").read_text())
    stored = [t for f in (tmp_path / "made").glob("*.safetensors") for t in load_file(f).values()]
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in stored)
    assert len(index["weight_map"]) == len(stored)
    assert gap(model, tmp_path / "made") < 1e-4


@pytest.mark.parametrize("vocabulary", [272, 257])
def test_the_mask_row_is_the_mean(vocabulary: int, tmp_path: Path) -> None:
    write_source(tmp_path / "source", "Qwen3", vocab_size=vocabulary)
    done = convert(tmp_path / "source", tmp_path / "made", "sdar")
    assert done.num_appended == (1 if vocabulary == 257 else 0)
    source, made = (load_file(tmp_path / d / WEIGHTS) for d in ("source", "made"))
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        before, after = source[name], made[name]
        assert len(after) == max(vocabulary, 258)
        assert torch.allclose(after[257], before[:257].mean(0), atol=1e-6)
        assert after[:257].equal(before[:257]) and after[258:].equal(before[258:])


def test_a_single_shard_keeps_its_index(tmp_path: Path) -> None:
    model = write_source(tmp_path / "source", "Qwen3")
    shard = "model-00001-of-00001.safetensors"
    (tmp_path / "source" / WEIGHTS).rename(tmp_path / "source" / shard)
    names = load_file(tmp_path / "source" / shard)
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, shard)}
    (tmp_path / "source" / "model.safetensors.index.json").write_text(json.dumps(index))
    convert(tmp_path / "source", tmp_path / "made", "sdar")
    assert gap(model, tmp_path / "made") < 1e-4


def test_the_mask_token_is_not_part_of_its_own_mean() -> None:
    rows = torch.tensor([[1.0], [2.0], [6.0], [50.0]], dtype=torch.bfloat16)
    token = MaskToken(1, "x", num_known=3, is_added=False)
    assert with_mask_row(rows, 5, token).flatten().tolist() == [1.0, 3.5, 6.0, 50.0, 3.5]


def test_everything_else_is_copied(tmp_path: Path) -> None:
    source, made = tmp_path / "source", tmp_path / "made"
    write_source(source, "Qwen2", dtype=torch.bfloat16, pad_token_id=3)
    (source / "generation_config.json").write_text('{"eos_token_id": [5, 0]}')
    (source / "chat_template.jinja").write_text("{{ messages[0].content }}")
    (source / "modeling_other.py").write_text("raise RuntimeError")
    made.mkdir()
    done = convert(source, made, "sdar", block_size=8)
    assert done.spec.eos_ids == (5, 0) and done.spec.block_size == 8
    assert not (made / "modeling_other.py").exists()
    tokenizer, before = load_tokenizer(made), load_tokenizer(source)
    assert tokenizer.chat_template is not None
    assert tokenizer.mask_token_id == 257 and before.mask_token_id is None
    assert encode("hi<|MASK|>", tokenizer) == [*encode("hi", before), 257]
    assert json.loads((made / "config.json").read_text())["pad_token_id"] == 3
    assert not (tmp_path / ".made.converting").exists()


def test_number_formats_stay(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_source(source, "Llama")
    tensors = {name: t.bfloat16() for name, t in load_file(source / WEIGHTS).items()}
    save_file(tensors, source / WEIGHTS)
    config = json.loads((source / "config.json").read_text()) | {"dtype": "bfloat16"}
    (source / "config.json").write_text(json.dumps(config))
    convert(source, tmp_path / "made", "dream")
    stored = load_file(tmp_path / "made" / WEIGHTS)
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    assert load_model(tmp_path / "made", dtype="auto").dtype == torch.bfloat16
    assert not stored["model.layers.1.self_attn.k_proj.bias"].any()
    assert all(
        stored[n].equal(t) for n, t in tensors.items() if "embed" not in n and "head" not in n
    )


def test_without_a_tokenizer_the_mask_id_must_be_given(tmp_path: Path) -> None:
    model = write_source(tmp_path / "source", "Qwen3", has_tokenizer=False)
    with pytest.raises(ValueError, match=r"has no tokenizer.*--mask-id"):
        convert(tmp_path / "source", tmp_path / "made", "sdar")
    done = convert(tmp_path / "source", tmp_path / "made", "sdar", mask_id=272)
    assert (done.spec.mask_id, done.spec.vocab_size, done.mask_text) == (272, 273, None)
    assert gap(model, tmp_path / "made") < 1e-4
    with pytest.raises(ValueError, match="mask_id = 274"):
        convert(tmp_path / "source", tmp_path / "other", "sdar", mask_id=274)


def change_config(directory: Path, **changes: Any) -> None:
    content = json.loads((directory / "config.json").read_text()) | changes
    kept = {key: value for key, value in content.items() if value is not None}
    (directory / "config.json").write_text(json.dumps(kept))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "'GPT2LMHeadModel'.*Qwen2ForCausalLM, Qwen3"),
        ({"attention_bias": True}, "attention_bias = True"),
        ({"mlp_bias": True}, "mlp_bias = True"),
        ({"use_sliding_window": True}, "use_sliding_window = True"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding_attention"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
        ({"hidden_size": None}, "lacks the key 'hidden_size'"),
        ({"intermediate_size": 44}, r"mlp\.down_proj\.weight' has shape \(32, 48\).*\(32, 44\)"),
        ({"num_hidden_layers": 1}, r"unexpected tensor 'model\.layers\.1"),
        ({"num_hidden_layers": 3}, r"missing tensor 'model\.layers\.2"),
        ({"vocab_size": 200}, "tokenizer has 257 ids and the embedding 200"),
    ],
)
def test_sources_that_cannot_be_converted_are_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write_source(tmp_path / "source", "Llama")
    change_config(tmp_path / "source", **changes)
    if "vocab_size" in changes:
        tensors = load_file(tmp_path / "source" / WEIGHTS)
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            tensors[name] = tensors[name][:200].clone()
        save_file(tensors, tmp_path / "source" / WEIGHTS)
    with pytest.raises(ValueError, match=message):
        convert(tmp_path / "source", tmp_path / "made", "sdar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_old_llamas_are_read(tmp_path: Path) -> None:
    source = tmp_path / "source"
    model = write_source(source, "Llama", num_key_value_heads=4)
    tensors = load_file(source / WEIGHTS)
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(tensors, source / WEIGHTS)
    change_config(
        source, rope_parameters=None, num_key_value_heads=None, head_dim=None, architectures=None
    )
    convert(source, tmp_path / "made", "sdar")
    assert gap(model, tmp_path / "made") < 1e-4


def test_a_destination_in_use_is_left_alone(tmp_path: Path) -> None:
    write_source(tmp_path / "source", "Qwen3")
    for place in (tmp_path / "source", tmp_path / "source" / "config.json"):
        with pytest.raises(ValueError, match="is there already"):
            convert(tmp_path / "source", place, "sdar")


def test_targets_and_blocks(tmp_path: Path) -> None:
    write_source(tmp_path / "source", "Qwen3")
    with pytest.raises(ValueError, match="to = 'llada': must be one of dream, sdar"):
        convert(tmp_path / "source", tmp_path / "made", "llada")
    with pytest.raises(ValueError, match="block_size = 0"):
        convert(tmp_path / "source", tmp_path / "made", "sdar", block_size=0)
    with pytest.raises(ValueError, match="block_size = 4: dream has full attention"):
        convert(tmp_path / "source", tmp_path / "made", "dream", block_size=4)


def test_an_interrupted_conversion_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_source(tmp_path / "source", "Qwen3")
    (tmp_path / ".made.converting").mkdir()  # of one that was killed
    (tmp_path / ".made.converting" / "junk").touch()

    def interrupt(_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "read_spec", interrupt)
        convert(tmp_path / "source", tmp_path / "made", "sdar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]
    convert(tmp_path / "source", tmp_path / "made", "sdar")
    assert not (tmp_path / "made" / "junk").exists()


def test_a_result_names_the_model_on_the_hub_that_it_was_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_source(tmp_path / "source", "Qwen3")
    convert(tmp_path / "source", tmp_path / "local", "sdar")
    assert CONVERTED_FROM not in read_config(tmp_path / "local")
    monkeypatch.setattr(module, "find_checkpoint", lambda _: tmp_path / "source")
    convert("them/qwen", tmp_path / "made", "sdar")
    assert read_config(tmp_path / "made")[CONVERTED_FROM] == "them/qwen"
