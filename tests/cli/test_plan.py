"""`unmask plan` as a user types it."""

import json
from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from tests.cli.test_main import refused, unmask
from unmask.cli import main as cli
from unmask.cli import plan as cli_plan

GSM8K = ROOT / "configs" / "rl" / "gsm8k.toml"


def test_the_command_is_registered() -> None:
    assert cli_plan.plan in {command.callback for command in cli.app.registered_commands}


def test_a_shipped_config_is_planned_without_its_model() -> None:
    done = unmask("plan", GSM8K, "--devices", 64, "--device", "h100")
    assert done.returncode == 0, done.stderr
    for text in ("JetLM/SDAR-1.7B-Chat", "64 h100", "It fits", "tokens/s", "rollout"):
        assert text in done.stdout


def test_json_and_key_value_words() -> None:
    words = ("sft", "model.path=SDAR-8B-Chat", "data.batch_size=64", "--devices", 8, "--json")
    done = unmask("plan", *words, "--prompt-tokens", 100, "--response-tokens", 300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["lengths"] == {"prompt": 100, "response": 300, "per_pass": 1.5}
    assert found["job"]["kind"] == "sft" and found["job"]["devices"] == 8


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--device", "tpu"), "--device tpu: must be one of h100, h200, a100, b200, cpu"),
        (("--devices", 0), "--devices 0: must be at least 1"),
        (("--devices", 4096), "fewer than devices"),
        (
            ("model.path=/nowhere",),
            "there is no /nowhere/config.json, and a plan downloads nothing",
        ),
        (("optimizer.lr=-1",), "optimizer.lr"),
    ],
)
def test_mistakes_are_one_sentence(words: tuple[object, ...], sentence: str) -> None:
    assert sentence in refused("plan", GSM8K, *words)


def test_an_evaluation_is_not_planned() -> None:
    assert "sft or rl" in refused("plan", ROOT / "configs" / "eval" / "gsm8k.toml")


def test_a_file_elsewhere_needs_its_kind(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("")
    assert refused("plan", file) == f"{file}: give the kind first: unmask plan rl {file}"


def test_shards_that_do_not_divide_the_devices_are_refused() -> None:
    line = refused("plan", GSM8K, "--devices", 12, "distributed.shard=8")
    assert "--devices 12: not a multiple of distributed.shard = 8" in line
