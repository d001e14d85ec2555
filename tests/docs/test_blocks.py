"""Every code block has a language that a test takes; one that is not run states why, or which test runs it."""

import json
import re

import pytest

from tests.architecture.source import ROOT
from tests.docs import test_python, test_shell, test_toml
from tests.docs.blocks import NOT_RUN, PAGES, RUN_BY, Block, blocks, of

VIEWER = ROOT / "src" / "unmask" / "viewer"
TESTED = {*test_python.LANGUAGES, *test_shell.LANGUAGES, *test_toml.LANGUAGES, "js", "json"}
# What a program prints, equations, trees of files.
PROSE = {"text"}


def test_every_fence_is_a_block() -> None:
    for page in PAGES:
        fences = re.findall(r"^ *```", (ROOT / page).read_text(), re.MULTILINE)
        assert len(fences) == 2 * sum(block.page == page for block in blocks()), page


def test_every_block_has_a_language_that_is_tested() -> None:
    assert not [str(block) for block in blocks() if block.language not in TESTED | PROSE]


@pytest.mark.parametrize("block", [block for block in blocks() if block.note], ids=str)
def test_a_block_that_is_not_run_states_why(block: Block) -> None:
    if test := RUN_BY.fullmatch(block.note):
        assert block.page.rpartition("/")[2] in (ROOT / test[1]).read_text()
    else:
        assert NOT_RUN.fullmatch(block.note)


@pytest.mark.parametrize("block", of("json"), ids=str)
def test_json_is_read(block: Block) -> None:
    for line in block.text.splitlines():
        json.loads(line)


@pytest.mark.parametrize("block", of("js"), ids=str)
def test_javascript_names_what_the_player_has(block: Block) -> None:
    code = re.sub(r"//.*", "", block.text)
    names = set(re.findall(r"player\.(\w+)", code))
    sources = "\n".join(path.read_text() for path in VIEWER.glob("*.js"))
    assert names
    assert not [
        name
        for name in names
        if not re.search(
            rf"^\s*(?:get |set |async )?{name}\(|\bthis\.{name}\b", sources, re.MULTILINE
        )
    ]
    assert all(code.count(left) == code.count(right) for left, right in ("()", "[]", "{}"))
