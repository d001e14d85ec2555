"""Configurations that come with unmask: found by name from every directory, listed and copied."""

import tomllib
from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from unmask.configs.load import load_config
from unmask.configs.rl import RLConfig
from unmask.configs.shipped import FOLDER, listing, shipped_files, text_of

FILE = ROOT / "configs" / "rl" / "chain_sum.toml"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_clone_reads_the_files_that_are_edited() -> None:
    assert FOLDER == ROOT / "configs"


@pytest.mark.parametrize(
    "word", ["rl/chain_sum", "rl/chain_sum.toml", "configs/rl/chain_sum.toml", "./rl/chain_sum"]
)
def test_a_word_is_the_name_of_a_shipped_file(word: str) -> None:
    config, origins = load_config(RLConfig, [Path(word)], [])
    assert config == load_config(RLConfig, [FILE], [])[0]
    assert (origins["steps"], origins["epochs"]) == ("shipped rl/chain_sum", "default")


def test_files_of_the_user_win(tmp_path: Path) -> None:
    mine = tmp_path / "rl" / "chain_sum.toml"
    mine.parent.mkdir()
    mine.write_text(FILE.read_text().replace("steps = 60", "steps = 7"))
    config, origins = load_config(RLConfig, [Path("rl/chain_sum.toml")], [])
    assert (config.steps, origins["steps"]) == (7, "rl/chain_sum.toml")


@pytest.mark.parametrize(
    "word", ["/rl/chain_sum", "rl/../rl/chain_sum", "../configs/rl/chain_sum", "rl"]
)
def test_a_path_is_no_name(word: str) -> None:
    with pytest.raises(ValueError, match="no such file"):
        load_config(RLConfig, [Path(word)], [])


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="there is no directory rl; shipped are rl/chain_sum, "):
        load_config(RLConfig, [Path("rl/chain_sun")], [])


def test_every_file_is_listed_with_its_first_comment() -> None:
    lines = listing().splitlines()
    assert len(lines) == len(shipped_files()) > 50
    (line,) = (line for line in lines if line.startswith("methods/spg "))
    assert "SPG (arXiv 2510.09541)" in line
    assert any(line.startswith("recipes/launch/slurm.sh ") for line in lines)


@pytest.mark.parametrize("name", shipped_files())
def test_a_printed_file_has_the_values_and_no_path_to_a_schema(name: str) -> None:
    path = shipped_files()[name]
    assert "#:schema" not in text_of(name)
    if path.suffix == ".toml":
        assert tomllib.loads(text_of(name)) == tomllib.loads(path.read_text())
    else:
        assert text_of(name) == path.read_text()


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="rl/nothing: no such configuration; `unmask config list`"):
        text_of("rl/nothing")
