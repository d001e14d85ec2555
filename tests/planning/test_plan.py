"""A plan takes the shape of its model from config.json or from a name, and reads no weight."""

from pathlib import Path

import pytest

from tests.planning.cases import case
from tests.toy import toy_checkpoint
from unmask.planning.plan import spec_of
from unmask.planning.published import SHAPES


def config_at(path: object, *words: str):
    return case(f"model.path={path}", *words).config


def test_config_json_is_enough(tmp_path: Path) -> None:
    toy_checkpoint(tmp_path)
    for file in tmp_path.glob("*.safetensors"):
        file.unlink()
    assert spec_of(config_at(tmp_path)).width == 32
    assert spec_of(config_at(tmp_path, "model.block_size=8")).block_size == 8


def test_names_of_published_models_need_no_file() -> None:
    assert spec_of(config_at("Gen-Verse/TraDo-8B-Instruct")) == SHAPES["8B"]
    assert spec_of(config_at("SDAR-8B-Chat", "model.block_size=16")).block_size == 16


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"there is no .*config.json, and a plan downloads nothing"
    ):
        spec_of(config_at(tmp_path / "nothing"))
