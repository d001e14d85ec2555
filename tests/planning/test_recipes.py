"""Every recipe is a config that `unmask plan` takes, and refuses the published settings that it names as refused."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.architecture.source import ROOT
from unmask.cli import main as cli
from unmask.configs.load import load_config
from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig

FOLDER = ROOT / "configs" / "recipes"
RECIPES = sorted([*FOLDER.glob("rl/*.toml"), *FOLDER.glob("sft/*.toml")])
CLASSES = {"sft": SFTConfig, "rl": RLConfig}
COMMAND = re.compile(r"^#   unmask (plan .*)$", re.MULTILINE)
REFUSED = re.compile(r"^# refused: (\S+)", re.MULTILINE)
each = pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")


def test_they_are_recipes_of_every_model_of_the_paper() -> None:
    assert {path.stem.partition("_")[0] for path in RECIPES} == {"trado", "dream", "llada"}
    assert {path.stem for path in FOLDER.glob("sft/*.toml")} <= {p.stem for p in RECIPES}


@each
def test_its_own_command_plans_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (words,) = COMMAND.findall(path.read_text())
    assert str(path.relative_to(ROOT)) in words.split()
    done = CliRunner().invoke(cli.app, [*words.split(), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["job"]["kind"] == path.parent.name
    assert found["memory"]["peak"] > 2**30
    assert found["seconds"]["update"] > 0
    assert found["fits"] or any(remedy["fits"] for remedy in found["remedies"])


@each
def test_what_it_names_as_refused_is(path: Path) -> None:
    cls = CLASSES[path.parent.name]
    load_config(cls, [path], [])
    for word in REFUSED.findall(path.read_text()):
        with pytest.raises(ValueError, match=re.escape(word.partition("=")[0].rpartition(".")[2])):
            load_config(cls, [path], [word])


def test_published_rollouts_of_dream_are_among_the_refused() -> None:
    found = REFUSED.findall((FOLDER / "rl" / "dream_coder.toml").read_text())
    assert found == ["sampling.top_p=0.9", "sampling.top_k=50", "engine.cache=window"]


@each
def test_a_number_that_is_not_published_has_a_comment(path: Path) -> None:
    """Sizes that the paper leaves open: they follow from this software or from the devices."""
    lines = path.read_text().splitlines()
    for key in ("token_budget", "batch_size"):
        for line in lines:
            if line.startswith(f"{key} = "):
                assert "# not published" in line
