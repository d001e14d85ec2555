"""The TOML of the pages: with what every run needs, it is a valid configuration of some kind."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.docs.blocks import Block, of, write_files
from unmask.configs.load import config_from
from unmask.runs.defaults import CONFIGS

LANGUAGES = ("toml",)
# What every configuration of a kind needs, and what a page's own keys need.
MODEL = ("model.path", "-")
TASK = (("task.kind", "json"), ("task.train", "-"), ("task.test", "-"))
NEEDED = {
    "sft": [MODEL, ("data.path", "-"), ("eval.problems", 0)],
    "dpo": [MODEL, ("pairs.path", "-"), ("eval.problems", 0)],
    "reward-model": [MODEL, ("pairs.path", "-")],
    "rl": [MODEL, *TASK],
    "eval": [MODEL, *TASK],
}
# A section with one of these has what it needs, and other keys might not fit.
SOURCES = {"kind", "hub", "sources"}


def load(kind: str, table: dict[str, Any]) -> None:
    """Load a page's table as a configuration of that kind.

    Raises:
        ValueError: it is not one.
    """
    stated = {
        name for name, part in table.items() if isinstance(part, dict) and SOURCES & part.keys()
    }
    needed = {key: value for key, value in NEEDED[kind] if key.partition(".")[0] not in stated}
    config_from(CONFIGS[kind], [("needed", needed), ("page", table)])


@pytest.mark.parametrize("block", of(*LANGUAGES), ids=str)
def test_toml_is_a_configuration(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(block.page, tmp_path)
    monkeypatch.chdir(tmp_path)
    table = tomllib.loads(block.text)
    if block.note:
        return
    errors: dict[str, str] = {}
    for kind in CONFIGS:
        try:
            load(kind, table)
        except ValueError as error:
            errors[kind] = str(error)
    assert len(errors) < len(CONFIGS), errors


def test_a_wrong_value_is_found() -> None:
    with pytest.raises(ValueError, match=r"optimizer\.lr"):
        load("rl", {"optimizer": {"lr": -1}})
