"""GGUF files unpacked: the tensors, config and logits of the model that they were made from."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from tests.toy_gguf import (
    FFN,
    WIDTH,
    model_metadata,
    model_tensors,
    published_tokenizer,
    random_model,
    tokenizer_metadata,
    toy_gguf,
    write_gguf,
)
from unmask.checkpoints import gguf_file
from unmask.checkpoints.checkpoint import load_model
from unmask.checkpoints.convert import convert, unpack_gguf
from unmask.checkpoints.gguf_file import unpack

gguf = pytest.importorskip("gguf")
KINDS = ("Llama", "Qwen2", "Qwen3")
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def unpacked(path: Path, dtype: torch.dtype = torch.float32) -> Path:
    """Unpack a file into a new directory and return that."""
    directory = path.with_suffix("")
    directory.mkdir()
    unpack(path, directory, dtype)
    return directory


def logits(model: Any, length: int = 40) -> torch.Tensor:
    ids = torch.randint(0, 300, (2, length), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model(ids).logits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_tied", [False, True])
def test_fp32_weights_and_the_config_come_back(kind: str, is_tied: bool, tmp_path: Path) -> None:
    model = random_model(kind, tie_word_embeddings=is_tied)
    metadata = model_metadata(model) | tokenizer_metadata(published_tokenizer("qwen2"), "qwen2")
    path = write_gguf(tmp_path / "toy.gguf", kind.lower(), metadata, model_tensors(model))
    directory = unpacked(path)
    wanted = model.state_dict()
    if is_tied:
        del wanted["lm_head.weight"]
    found = load_file(directory / "model.safetensors")
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)

    loaded = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    assert type(loaded).__name__ == f"{kind}ForCausalLM"
    assert torch.equal(logits(loaded.eval()), logits(model))
    config = json.loads((directory / "config.json").read_text())
    assert (config["rms_norm_eps"], config["rope_theta"]) == (1e-6, 50000.0)
    assert (config["eos_token_id"], config["torch_dtype"]) == (2, "float32")


@pytest.mark.parametrize("format_name", ["F16", "BF16", "Q8_0", "Q5_1", "Q4_0", "Q4_1"])
@pytest.mark.parametrize("kind", ["Llama", "Qwen3"])
def test_quantized_weights_are_those_of_their_blocks(
    kind: str, format_name: str, tmp_path: Path
) -> None:
    model = toy_gguf(tmp_path / "toy.gguf", kind, format_name=format_name)
    found = load_file(unpacked(tmp_path / "toy.gguf") / "model.safetensors")
    quantization = gguf.GGMLQuantizationType[format_name]
    for name, tensor in model.state_dict().items():
        # A row of quantized weights stays the same row wherever llama.cpp stores it.
        row = tensor.numpy()
        if tensor.ndim == 2:
            row = gguf.quants.dequantize(gguf.quants.quantize(row, quantization), quantization)
        assert torch.equal(found[name], torch.from_numpy(np.array(row))), name


def test_k_quants_are_dequantized(tmp_path: Path) -> None:
    """The package writes no such blocks: these are random bytes with scales that are numbers."""
    model = random_model("Qwen3")
    name, kind = "blk.1.ffn_down.weight", gguf.GGMLQuantizationType.Q4_K
    blocks = np.random.default_rng(0).integers(0, 256, (WIDTH, FFN // 256, 144), dtype=np.uint8)
    blocks[..., :4] = np.array([0.01, 0.02], np.float16).view(
        np.uint8
    )  # a block's scale and minimum
    blocks = blocks.reshape(WIDTH, -1)
    metadata = model_metadata(model) | tokenizer_metadata(published_tokenizer("qwen2"), "qwen2")
    held = {name: (blocks, "Q4_K")}
    write_gguf(tmp_path / "toy.gguf", "qwen3", metadata, model_tensors(model), blocks=held)
    found = load_file(unpacked(tmp_path / "toy.gguf") / "model.safetensors")
    wanted = gguf.quants.dequantize(blocks, kind)
    assert wanted.std() > 0.01
    assert np.array_equal(found["model.layers.1.mlp.down_proj.weight"].numpy(), wanted)


def test_bf16_is_the_rounded_fp32(tmp_path: Path) -> None:
    toy_gguf(tmp_path / "toy.gguf", "Llama", format_name="Q8_0")
    exact = load_file(unpacked(tmp_path / "toy.gguf") / "model.safetensors")
    (tmp_path / "half").mkdir()
    unpack(tmp_path / "toy.gguf", tmp_path / "half", torch.bfloat16)
    for name, tensor in load_file(tmp_path / "half" / "model.safetensors").items():
        assert torch.equal(tensor, exact[name].bfloat16())


def test_shards_are_written_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_file, "SHARD_BYTES", 200_000)
    model = toy_gguf(tmp_path / "toy.gguf", "Llama")
    directory = unpacked(tmp_path / "toy.gguf")
    assert len(list(directory.glob("model-*.safetensors"))) > 2
    loaded = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    assert torch.equal(logits(loaded.eval()), logits(model))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("to", ["sdar", "dream"])
def test_a_file_is_converted_in_one_step(kind: str, to: str, tmp_path: Path) -> None:
    model = toy_gguf(tmp_path / "toy.gguf", kind)
    done = convert(tmp_path / "toy.gguf", tmp_path / "made", to)
    assert done.mask_text == "<|MASK|>" if to == "sdar" else done.mask_text
    assert done.num_appended == 0  # the rows of unused tokens are free
    loaded = load_model(tmp_path / "made")
    ids = torch.randint(0, 300, (2, 40), generator=torch.Generator().manual_seed(1))
    causal = torch.ones(40, 40, dtype=torch.bool).tril()[None]
    with torch.no_grad():
        ours = loaded.logits(ids, allowed=causal)
    rows = [row for row in range(ours.shape[-1]) if row != loaded.spec.mask_id]
    assert (ours[..., rows] - logits(model)[..., rows]).abs().max() < 1e-4
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_llama3_scaling_is_found_by_its_factors(tmp_path: Path) -> None:
    model = random_model("Llama", rope_parameters=LLAMA3, head_dim=16)
    inverse = model.model.rotary_emb.inv_freq
    plain = 500000.0 ** (-torch.arange(8) / 8)
    factors = (plain / inverse).numpy().astype(np.float32)
    assert ((factors > 1.1) & (factors < 31)).any()  # one is interpolated
    metadata = model_metadata(model) | tokenizer_metadata(published_tokenizer("qwen2"), "qwen2")
    tensors = model_tensors(model) | {"rope_freqs.weight": factors}
    write_gguf(tmp_path / "toy.gguf", "llama", metadata, tensors)
    directory = unpacked(tmp_path / "toy.gguf")
    config = json.loads((directory / "config.json").read_text())
    assert config["rope_scaling"] == {k: v for k, v in LLAMA3.items() if k != "rope_theta"}
    loaded = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    assert torch.equal(logits(loaded.eval()), logits(model))

    wrong = tensors | {"rope_freqs.weight": np.linspace(1, 32, 8, dtype=np.float32)}
    write_gguf(tmp_path / "wrong.gguf", "llama", metadata, wrong)
    with pytest.raises(ValueError, match=r"rope_freqs\.weight.*not those of a Llama 3 model"):
        unpacked(tmp_path / "wrong.gguf")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split.count": 3}, r"split\.count = 3: it is one part of several"),
        ({"llama.expert_count": 8}, r"llama\.expert_count = 8: is not supported"),
        ({"llama.rope.scaling.type": "yarn"}, r"rope\.scaling\.type = 'yarn': is not supported"),
        ({"llama.attention.value_length": 8}, r"value_length = 8: must be the width of a head"),
        ({"llama.block_count": 0}, r"llama\.block_count = 0: must be a positive number"),
        ({"llama.block_count": 3}, r"missing tensor 'model\.layers\.2"),
        (
            {"tokenizer.ggml.pre": "tekken"},
            r"tokenizer\.ggml\.pre = 'tekken': must be one of gpt-2",
        ),
        (
            {"tokenizer.ggml.model": "llama"},
            r"tokenizer\.ggml\.model = 'llama': must be one of gpt2",
        ),
        ({"tokenizer.ggml.eos_token_id": 999}, r"eos_token_id = 999: must be an id below 320"),
        ({"tokenizer.ggml.merges": ["a"]}, r"tokenizer\.ggml\.merges: 'a'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_represented_is_named(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    model = random_model("Llama")
    metadata = model_metadata(model) | tokenizer_metadata(published_tokenizer("qwen2"), "qwen2")
    write_gguf(tmp_path / "toy.gguf", "llama", metadata | change, model_tensors(model))
    with pytest.raises(ValueError, match=message) as caught:
        convert(tmp_path / "toy.gguf", tmp_path / "made", "sdar")
    assert str(caught.value).startswith(str(tmp_path / "toy.gguf"))
    assert {path.name for path in tmp_path.iterdir()} == {"toy.gguf"}


def test_another_architecture_and_other_tensors_are_named(tmp_path: Path) -> None:
    model = random_model("Llama")
    metadata = model_metadata(model) | tokenizer_metadata(published_tokenizer("qwen2"), "qwen2")
    tensors = model_tensors(model)
    write_gguf(tmp_path / "gemma.gguf", "gemma3", metadata, tensors)
    with pytest.raises(ValueError, match=r"general\.architecture = 'gemma3': must be one of llama"):
        unpacked(tmp_path / "gemma.gguf")
    bias = {"blk.0.attn_q.bias": np.zeros(64, np.float32)}
    write_gguf(tmp_path / "bias.gguf", "llama", metadata, tensors | bias)
    with pytest.raises(
        ValueError, match=r"unexpected tensor 'model\.layers\.0\.self_attn\.q_proj\.bias'"
    ):
        unpacked(tmp_path / "bias.gguf")
    write_gguf(
        tmp_path / "more.gguf",
        "llama",
        metadata,
        tensors | {"blk.0.ssm.weight": bias["blk.0.attn_q.bias"]},
    )
    with pytest.raises(ValueError, match=r"unexpected tensor 'blk\.0\.ssm\.weight'"):
        unpacked(tmp_path / "more.gguf")
    whole = tensors | {"blk.0.ffn_up.weight": np.zeros((FFN, WIDTH), np.int8)}
    write_gguf(tmp_path / "int.gguf", "llama", metadata, whole)
    with pytest.raises(
        ValueError, match=r"'blk\.0\.ffn_up\.weight': its quantization I8 is not supported"
    ):
        unpacked(tmp_path / "int.gguf")


@pytest.mark.parametrize("kept", [3, 20, 3000, 60_000])
def test_a_truncated_file_is_refused(kept: int, tmp_path: Path) -> None:
    toy_gguf(tmp_path / "toy.gguf", "Llama")
    (tmp_path / "cut.gguf").write_bytes((tmp_path / "toy.gguf").read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"cut\.gguf: not a whole GGUF file"):
        unpacked(tmp_path / "cut.gguf")


def test_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy.gguf").touch()
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ValueError, match=r"pip install 'unmask\[gguf\]'"):
        convert(tmp_path / "toy.gguf", tmp_path / "made", "sdar")


def test_only_gguf_files_are_unpacked_or_given_a_format(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a GGUF file \(\.gguf\)"):
        unpack_gguf(tmp_path, tmp_path / "made")
    with pytest.raises(ValueError, match=r"dtype = torch\.bfloat16: goes with a GGUF file"):
        convert(tmp_path, tmp_path / "made", "sdar", dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"none\.gguf: no such file"):
        unpack_gguf(tmp_path / "none.gguf", tmp_path / "made")
