"""The code blocks of all pages, and what is stated about each.

A comment in front of a block, or of the line that names its file, exempts it from the test of its language:

    <!-- not run: REASON -->            it is only parsed
    <!-- run by tests/PATH.py -->       that test runs it

A block behind a line that is a file's name and a colon is that file; a block of commands tagged `run` is run in the
folder of the page's files.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.architecture.source import ROOT
from tools.site import places

PAGES = [*places.pages(), "benchmarks/README.md"]
BLOCK = re.compile(
    r"^(?:<!-- (?P<note>[^>]*?) -->\n+)?(?:`(?P<file>[\w/]+\.\w+)`:\n+)?"
    r"(?P<indent> *)```(?P<tags>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
NOT_RUN = re.compile(r"not run: \S.{9,}", re.DOTALL)
RUN_BY = re.compile(r"run by (tests/[\w/]+\.py)")


@dataclass(frozen=True, slots=True)
class Block:
    """A code block of a page.

    Attributes:
        page: the path of the page.
        line: of its opening fence.
        language: the first word behind the fence.
        text: what is in it.
        note: the comment in front of it; empty if there is none.
        file: the name of the file that it is; empty if it is none.
        is_run: whether it is tagged `run`.
    """

    page: str
    line: int
    language: str
    text: str
    note: str
    file: str
    is_run: bool

    def __str__(self) -> str:
        """Return the place, which is also the name of its test."""
        return f"{self.page}:{self.line}"


@cache
def blocks() -> tuple[Block, ...]:
    """Return every block of every page, in order."""
    return tuple(
        Block(
            page,
            text.count("\n", 0, found.start("tags")) + 1,
            (found["tags"].split() or [""])[0],
            found["text"],
            found["note"] or "",
            found["file"] or "",
            "run" in found["tags"].split()[1:],
        )
        for page in PAGES
        for text in [(ROOT / page).read_text()]
        for found in BLOCK.finditer(text)
    )


def write_files(page: str, folder: Path) -> None:
    """Write the files that a page shows, unless another test takes them."""
    for block in blocks():
        if block.page == page and block.file and not block.note:
            (folder / block.file).write_text(block.text)


def of(*languages: str) -> list[Block]:
    """Return the blocks in these languages."""
    return [block for block in blocks() if block.language in languages]
