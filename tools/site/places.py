"""Where files of the repository stand on the site, and the links between them.

The pages are read on a code host and on the site, so their links are paths of the repository. `docs/x.md`
becomes the page `x.md`, the README the first page, CONTRIBUTING a page, and any other file that a page links
to is shown below `source/`: Markdown as a page, pictures as they are, other text as a page that quotes it.
"""

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIRST = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}
AS_THEY_ARE = {".md", ".svg", ".png", ".gif"}
# Code may hold `](`; a link stands outside of it.
CODE = re.compile(r"^(```+).*?^\1|(`+)(?!`).*?(?<!`)\2(?!`)", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`[^`]+`")
# A table's row: a code host reads `\|` in code as `|`, the site shows both characters.
CELLS = re.compile(r"^\|.*$", re.MULTILINE)
# What a test reads behind the language (`bash run`), which the site would not take.
TAGS = re.compile(r"^( *```\w+)[^\n`]*$", re.MULTILINE)
LINK = re.compile(r"(?<=\]\()(?P<path>[^)#\s]*)(?P<anchor>#[^)\s]*)?(?=\))")
# The name of a page as the text of a link: files have names, pages of the site have titles.
NAME = re.compile(r"\[(?P<name>[\w./-]+\.md)\](?=\()")
# Links to the repository on a code host, which the README has for the package index.
HOST = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+/(?:blob|raw|tree)/main/")


def pages() -> list[str]:
    """Return the pages that are written by hand, as paths from the root of the repository."""
    found = [*FIRST, *(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]
    return sorted(found)


def uri(path: str) -> str:
    """Return the address on the site, from its root, of a file of the repository."""
    if path in FIRST:
        return FIRST[path]
    if path.startswith("docs/"):
        inside = path.removeprefix("docs/")
        return f"{inside.removesuffix('.ipynb')}.md" if path.endswith(".ipynb") else inside
    return f"source/{path}" if Path(path).suffix in AS_THEY_ARE else f"source/{path}.md"


def target(page: str, link: str) -> str | None:
    """Return the path in the repository that a page's link leads to, or None for a link to elsewhere."""
    link, is_absolute = HOST.subn("", link)
    if re.match(r"[a-z]+:", link):
        return None
    if not link:
        return page
    return posixpath.normpath(
        link if is_absolute else posixpath.join(posixpath.dirname(page), link)
    )


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """Return Markdown whose parts outside of code are changed."""
    parts: list[str] = []
    end = 0
    for code in CODE.finditer(text):
        parts += [change(text[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, change(text[end:])])


def links(page: str) -> Iterator[tuple[str, str]]:
    """Yield each link of a page within the repository: the path and the heading, which may be empty."""
    for link in LINK.finditer(CODE.sub("", (ROOT / page).read_text())):
        if (path := target(page, link["path"])) is not None:
            yield path, (link["anchor"] or "").removeprefix("#")


def linked_files() -> list[str]:
    """Return the files outside of `docs/` that pages link to, and those that these link to."""
    found: list[str] = []
    rest = pages()
    while rest:
        page = rest.pop()
        for path, _ in links(page):
            is_new = path not in (*found, *FIRST) and not path.startswith("docs/")
            if is_new and (ROOT / path).is_file():
                found.append(path)
                rest += [path] if path.endswith(".md") else []
    return sorted(found)


def title(path: str) -> str:
    """Return the first heading of a page."""
    return (ROOT / path).read_text().partition("# ")[2].partition("\n")[0]


def of_site(text: str, page: str) -> str:
    """Return a page's Markdown as the site reads it: with links between its own pages."""
    here = posixpath.dirname(uri(page)) or "."

    def moved(link: re.Match[str]) -> str:
        path = target(page, link["path"])
        if path and path.startswith("docs/") and (ROOT / path).is_dir():
            path = (
                min((ROOT / path).iterdir()).relative_to(ROOT).as_posix()
            )  # a folder: its first page
        if path is None or not link["path"] or not (ROOT / path).is_file():
            return link[0]
        return posixpath.relpath(uri(path), here) + (link["anchor"] or "")

    def titled(name: re.Match[str]) -> str:
        path = target(page, name["name"])
        return f"[{title(path)}]" if path and (ROOT / path).is_file() else name[0]

    text = outside_code(text, lambda part: NAME.sub(titled, LINK.sub(moved, part)))
    text = TAGS.sub(r"\1", text)
    return CELLS.sub(lambda row: INLINE.sub(lambda code: code[0].replace("\\|", "|"), row[0]), text)
