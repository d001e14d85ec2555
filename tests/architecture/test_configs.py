"""Every shipped config is valid, and every key it may hold is explained in a sentence."""

import importlib
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.source import ROOT, modules
from unmask.configs.dpo import DPOConfig
from unmask.configs.eval import EvalConfig
from unmask.configs.keys import schema_text
from unmask.configs.load import load_config
from unmask.configs.reward_model import RewardModelConfig
from unmask.configs.rl import RLConfig
from unmask.configs.section import Section
from unmask.configs.sft import SFTConfig

CLASSES: dict[str, type[Section]] = {
    "sft": SFTConfig,
    "dpo": DPOConfig,
    "reward-model": RewardModelConfig,
    "rl": RLConfig,
    "eval": EvalConfig,
}
# Methods are laid over a config of RL.
METHODS = sorted((ROOT / "configs" / "methods").glob("*.toml"))
SHIPPED = sorted({*(ROOT / "configs").rglob("*.toml")} - {*METHODS})


def sections() -> Iterator[type[Section]]:
    """Yield the classes that `unmask.configs` defines."""
    for module in modules():
        if module.area == "configs":
            for value in vars(importlib.import_module(module.name)).values():
                is_section = isinstance(value, type) and issubclass(value, Section)
                if is_section and value.__module__ == module.name:
                    yield value


def test_every_kind_is_shipped() -> None:
    assert {path.parent.name for path in SHIPPED} == set(CLASSES)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_shipped_config_is_valid(path: Path) -> None:
    CLASSES[path.parent.name].model_validate(tomllib.loads(path.read_text()))


@pytest.mark.parametrize("method", METHODS, ids=lambda path: path.stem)
def test_a_method_is_laid_over_every_config_that_has_none(method: Path) -> None:
    paths = [path for path in SHIPPED if path.parent.name == "rl"]
    plain = [
        p for p in paths if not {"views", "advantage", "loss"} & {*tomllib.loads(p.read_text())}
    ]
    assert len(plain) > 2
    for path in plain:
        load_config(RLConfig, [path, method], [])


def test_every_method_has_a_row_in_its_page() -> None:
    page = (ROOT / "docs" / "methods.md").read_text()
    assert not [path.stem for path in METHODS if f"`{path.stem}`" not in page]


@pytest.mark.parametrize("kind", CLASSES)
def test_committed_schema_is_the_generated_one(kind: str) -> None:
    path = f"configs/{kind}.schema.json"
    is_current = (ROOT / path).read_text() == schema_text(CLASSES[kind]) + "\n"
    assert is_current, f"run: make format (unmask config {kind} --schema > {path})"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_shipped_config_names_its_schema(path: Path) -> None:
    """Editors read the schema's address from the first line."""
    first, _, _ = path.read_text().partition("\n")
    up = "../" * (len(path.relative_to(ROOT / "configs").parts) - 1)
    assert first == f"#:schema {up}{path.parent.name}.schema.json"


def test_every_key_is_explained() -> None:
    wrong = [
        f"{section.__module__}.{section.__name__}.{name}: {field.description!r}"
        for section in sections()
        for name, field in section.model_fields.items()
        if not (field.description or "").endswith(".")
    ]
    assert not wrong, "a sentence ends with a full stop:\n" + "\n".join(wrong)
