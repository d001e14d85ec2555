"""The tables of keys of other libraries: right of each stand the keys here, those that an error names among them."""

import re

import pytest

from tests.architecture.source import ROOT
from unmask.configs.keys import keys
from unmask.configs.other_names import KEYS
from unmask.configs.rl import RLConfig

PAGES = ("coming-from-trl.md", "coming-from-verl.md")
HERE = [key.name for key in keys(RLConfig)]
CODE = re.compile(r"`([^`]+)`")


def rows(page: str) -> list[tuple[list[str], list[str]]]:
    """Return the names there and the keys here of each row of a page's table of keys."""
    text = (ROOT / "docs" / page).read_text()
    cells = re.findall(r"^\| (.*?) \|(.*?)\|.*\|$", text.partition("\n## Keys")[2], re.MULTILINE)
    return [(CODE.findall(there), CODE.findall(here)) for there, here in cells if "`" in there]


@pytest.mark.parametrize("page", PAGES)
def test_the_keys_exist(page: str) -> None:
    named = [key.partition(" = ")[0] for _, found in rows(page) for key in found]
    keys_named = [key for key in named if re.fullmatch(r"[a-z_]+(\[\])?(\.\w+)*", key)]
    assert len(keys_named) > 20
    sections = {key.rpartition(".")[0] for key in HERE}
    assert not [key for key in keys_named if key not in HERE and key not in sections]


@pytest.mark.parametrize("page", PAGES)
def test_the_table_agrees_with_the_error(page: str) -> None:
    checked = 0
    for there, here in rows(page):
        for name in there:
            if expected := set(KEYS.get(name, ())) & set(HERE):
                checked += 1
                assert any(key.partition(" = ")[0] in expected for key in here), name
    assert checked >= (15 if page == "coming-from-trl.md" else 0)
