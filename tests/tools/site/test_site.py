"""The sources of the site: every link and anchor leads somewhere, and every page has its place in the menu.

The builder of the site checks the same with `--strict`; this needs no builder.
"""

import posixpath
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.architecture.source import ROOT
from tools.site import generated, places
from tools.site.__main__ import write

HEADING = re.compile(r"^#+ +(.*?)\s*$", re.MULTILINE)


class Menu(yaml.SafeLoader):
    """Read `mkdocs.yml`, whose `!!python` values are options of extensions."""


Menu.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    write(folder)
    return folder


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as code hosts and the site make them."""
    found: set[str] = set()
    for title in HEADING.findall(re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
        slug = re.sub(r"[^\w -]", "", plain.lower()).replace(" ", "-")
        numbered = (f"{slug}_{count}" if count else slug for count in range(99))
        found.add(next(name for name in numbered if name not in found))
    return found


def menu() -> Iterator[str]:
    """Yield the pages that the menu lists."""
    rest: list[Any] = [yaml.load((ROOT / "mkdocs.yml").read_text(), Menu)["nav"]]
    while rest:
        match rest.pop():
            case str(page):
                yield page
            case dict(entries):
                rest += entries.values()
            case entries:
                rest += entries


def test_every_link_leads_to_a_file_and_a_heading(site: Path) -> None:
    wrong: list[str] = []
    for page in site.rglob("*.md"):
        here = page.relative_to(site).as_posix()
        for link in places.LINK.finditer(places.CODE.sub("", page.read_text())):
            path, anchor = link["path"], (link["anchor"] or "").removeprefix("#")
            if re.match(r"[a-z]+:", path):
                continue
            end = site / posixpath.normpath(
                posixpath.join(posixpath.dirname(here), path or page.name)
            )
            if not end.is_file() or (anchor and anchor not in anchors(end.read_text())):
                wrong.append(f"{here}: {link[0]}")
    assert not wrong


def test_the_menu_lists_every_page_once(site: Path) -> None:
    pages = {page.relative_to(site).as_posix() for page in site.rglob("*.md")}
    assert sorted(menu()) == sorted(page for page in pages if not page.startswith("source/"))


def test_every_name_of_the_reference_exists(site: Path) -> None:
    names = [
        name
        for page in (site / "reference").glob("*.md")
        for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
    ]
    assert {"unmask.engine.llm.LLM", "unmask.types"} <= set(names)
    for name in names:
        module, _, last = name.rpartition(".")
        assert hasattr(import_module(module), last) or import_module(name), name


def test_every_command_and_key_is_in_the_reference(site: Path) -> None:
    from unmask.cli.main import app
    from unmask.configs.keys import keys
    from unmask.configs.rl import RLConfig

    commands = (site / "reference" / "commands.md").read_text()
    for command in app.registered_commands:
        name = command.name or command.callback.__name__  # pyright: ignore[reportOptionalMemberAccess]
        assert f"\n## `unmask {name}`\n" in commands
    listed = (site / "reference" / "keys.md").read_text()
    assert all(f"\n**`{key.name}`** `{key.type}`" in listed for key in keys(RLConfig))


def test_no_file_of_the_theme_comes_from_another_host() -> None:
    config = yaml.load((ROOT / "mkdocs.yml").read_text(), Menu)
    assert config["theme"]["font"] is False
    assert "extra_javascript" not in config


def test_a_notebook_is_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated, "ROOT", tmp_path)
    (tmp_path / "a.ipynb").write_text(
        '{"cells": [{"cell_type": "markdown", "source": ["# Title\\n", "text"]},'
        ' {"cell_type": "code", "source": ["1 + 1"], "outputs":'
        ' [{"output_type": "execute_result", "data": {"text/plain": ["2"]}}]}]}'
    )
    page = generated.notebook_page("a.ipynb")
    assert page.startswith("# Title\ntext\n\n```python\n1 + 1\n```\n\n```text\n2\n```\n\n")
