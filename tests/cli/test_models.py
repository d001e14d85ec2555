"""The commands about checkpoints, as a user types them."""

import json
from pathlib import Path

import pytest
import torch

from tests.checkpoints.test_checkpoint import edit
from tests.checkpoints.test_convert import write_source
from tests.cli.test_main import refused, unmask
from tests.toy_gguf import toy_gguf
from unmask.checkpoints.checkpoint import load_model
from unmask.cli import main as cli
from unmask.cli import models as cli_models


def test_the_commands_are_registered() -> None:
    names = {command.callback for command in cli.app.registered_commands}
    assert {cli_models.convert, cli_models.init, cli_models.inspect} <= names


def test_init_inspect_and_generate(tmp_path: Path) -> None:
    place = tmp_path / "model"
    done = unmask("init", place, "--family", "sdar", "--seed", 3)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == (
        f"{place}: sdar, block-causal attention, blocks of 4; row i predicts token i"
    )
    assert load_model(place).spec.num_layers == 2

    done = unmask("inspect", place, "--tokens", 100)
    assert done.returncode == 0, done.stderr
    for text in ("mask id 1, eos ids 0", "It loads.", "258 ids, no chat template", "KiB"):
        assert text in done.stdout

    done = unmask("generate", place, "hi", "--max-tokens", 4, "--device", "cpu")
    assert done.returncode == 0, done.stderr


def test_experts_are_reported(tmp_path: Path) -> None:
    place = tmp_path / "model"
    done = unmask("init", place, "--family", "llada2", "--alphabet", "0123")
    assert "of them per token" in done.stdout
    printed = unmask("inspect", place).stdout
    assert "8 of width 32, 2 per token, in 1 layers, grouped_sigmoid" in printed


def test_the_side_of_images_is_reported(tmp_path: Path) -> None:
    unmask("init", tmp_path / "model", "--family", "lladav")
    printed = unmask("inspect", tmp_path / "model").stdout
    assert "a tower of 2 layers of width 64; 17 vectors for 32 x 32 pixels" in printed


def test_convert(tmp_path: Path) -> None:
    write_source(tmp_path / "source", "Llama")
    done = unmask(
        "convert", tmp_path / "source", tmp_path / "made", "--to", "sdar", "--block-size", 8
    )
    assert done.returncode == 0, done.stderr
    assert (
        "mask token 257 '<|MASK|>'; its row, a spare row, is the mean of the others" in done.stdout
    )
    assert "loads here only" in done.stdout
    assert load_model(tmp_path / "made").spec.block_size == 8

    found = json.loads(unmask("inspect", tmp_path / "made", "--json").stdout)
    assert found["loads"] and found["spec"]["has_qk_norm"] is False
    done = unmask("convert", tmp_path / "source", tmp_path / "dream", "--to", "dream")
    assert "loads here only" not in done.stdout


def test_convert_a_gguf_file(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    toy_gguf(tmp_path / "toy.gguf", "Qwen3", format_name="Q8_0")
    made, plain = tmp_path / "made", tmp_path / "plain"
    done = unmask("convert", tmp_path / "toy.gguf", made, "--to", "sdar", "--dtype", "bfloat16")
    assert done.returncode == 0, done.stderr
    found = json.loads(unmask("inspect", made, "--json").stdout)
    assert found["loads"] and found["stated_dtype"] == "bfloat16" and found["has_chat_template"]
    done = unmask("convert", tmp_path / "toy.gguf", plain, "--to", "autoregressive")
    assert done.stdout == f"{plain}: the checkpoint that {tmp_path / 'toy.gguf'} was made from\n"
    assert unmask("generate", made, "Ann has", "--max-tokens", 8).returncode == 0


def test_inspect_of_a_checkpoint_that_does_not_load_exits_with_2(tmp_path: Path) -> None:
    write_source(tmp_path / "source", "Qwen3")
    done = unmask("inspect", tmp_path / "source")
    assert done.returncode == 2 and not done.stderr
    assert "It does not load" in done.stdout
    assert "`unmask convert`" in done.stdout
    assert not json.loads(unmask("inspect", tmp_path / "source", "--json").stdout)["loads"]
    assert "nowhere: no such directory; " in refused("inspect", tmp_path / "nowhere")


def test_inspect_shows_the_readable_parts_of_a_broken_checkpoint(tmp_path: Path) -> None:
    unmask("init", tmp_path / "model", "--family", "sdar")
    edit(tmp_path / "model" / "config.json", hidden_size=None)
    done = unmask("inspect", tmp_path / "model")
    assert done.returncode == 2
    assert "ERROR" in done.stdout and "lacks the key 'hidden_size'" in done.stdout
    assert "Traceback" not in done.stderr


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    write_source(tmp_path / "source", "Qwen3", has_tokenizer=False)
    source = tmp_path / "source"
    assert "--mask-id" in refused("convert", source, tmp_path / "made", "--to", "sdar")
    assert "already" in refused("convert", source, source, "--to", "sdar")
    assert "'huge'" in refused("init", tmp_path / "model", "--family", "sdar", "--size", "huge")
    assert "must be one of dream" in refused("init", tmp_path / "model", "--family", "x")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3 * 2**39, "1.5 TiB"),
        (2**52, "4096.0 TiB"),
    ],
)
def test_sizes_are_readable(size: int, text: str) -> None:
    assert cli_models.in_units(size) == text


def test_seeds_differ(tmp_path: Path) -> None:
    for seed in (1, 2):
        unmask("init", tmp_path / str(seed), "--family", "dream", "--seed", seed)
    first, second = (load_model(tmp_path / str(seed)) for seed in (1, 2))
    assert not torch.equal(first.backbone.embedding.weight, second.backbone.embedding.weight)
