"""Words are files and overrides."""

from pathlib import Path

from unmask.cli.options import load
from unmask.configs.rl import RLConfig


def test_words_with_an_equals_sign_are_overrides_the_others_files(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('steps = 3\n[model]\npath = "m"\n[task]\nkind = "json"\n')
    config, origins = load(RLConfig, [str(file), "rollout.prompts=2"])
    assert (config.steps, config.rollout.prompts) == (3, 2)
    assert (origins["steps"], origins["rollout.prompts"]) == (str(file), "command line")
