"""The files for schedulers: files that their programs read, whose commands torchrun and `unmask` take."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from torch.distributed.run import parse_args

from tests.architecture.source import ROOT
from unmask.configs.load import load_config
from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig

LAUNCHERS = sorted((ROOT / "configs" / "recipes" / "launch").iterdir())
PAGE = ROOT / "docs" / "scale.md"
CLASSES = {"sft": SFTConfig, "rl": RLConfig}


def commands(path: Path) -> list[str]:
    """Return the torchrun commands of a script, a page, or a list of words in YAML, one line each."""
    text = path.read_text().replace("\\\n", " ")
    text = re.sub(r"unmask\n +(?=[a-z])", "unmask ", text)  # a folded line of YAML
    text = re.sub(r" +", " ", re.sub(r"\n +- ", " ", text))
    return re.findall(r"torchrun (-.*? -m unmask [^\n&#]*)", text)


@pytest.mark.parametrize("path", [*LAUNCHERS, PAGE], ids=lambda path: path.name)
def test_commands_are_valid(path: Path) -> None:
    found = commands(path)
    assert found
    for command in found:
        launcher, _, words = command.partition(" -m unmask ")
        values = re.sub(r'"?\$\w+"?', "2", launcher)  # variables of the scheduler
        parsed = parse_args([*values.split(), "-m", "unmask"])
        assert parsed.rdzv_backend == "c10d"
        kind, *rest = words.split()
        assert "--resume" in rest
        files = [ROOT / word for word in rest if word.endswith(".toml")]
        assert files
        load_config(CLASSES[kind], files, [word for word in rest if "=" in word])


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.name)
def test_a_scheduler_can_read_it(path: Path) -> None:
    if path.suffix == ".yaml":
        assert all(isinstance(part, dict) for part in yaml.safe_load_all(path.read_text()))
    elif (bash := shutil.which("bash")) is not None:
        subprocess.run([bash, "-n", path], check=True)
    assert f"`{path.name}`" in PAGE.read_text()


def test_no_launcher_is_missing() -> None:
    assert {path.suffix for path in LAUNCHERS} == {".sh", ".yaml"}
