"""Words are files and overrides; the first prompt is printed without loading weights."""

from pathlib import Path

import pytest

from tests.trainers.toy_runs import rl_config
from unmask.cli.options import load, print_first_prompt
from unmask.configs.rl import RLConfig


def test_words_with_an_equals_sign_are_overrides_the_others_files(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('steps = 3\n[model]\npath = "m"\n[task]\nkind = "json"\n')
    config, origins = load(RLConfig, [str(file), "rollout.prompts=2"])
    assert (config.steps, config.rollout.prompts) == (3, 2)
    assert (origins["steps"], origins["rollout.prompts"]) == (str(file), "command line")


def test_the_first_prompt_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_first_prompt(rl_config(tmp_path))
    assert "1+2=" in capsys.readouterr().out
