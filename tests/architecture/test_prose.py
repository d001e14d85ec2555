"""Words that make persons of code, or that the field has a plainer word for (DESIGN section 6)."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.source import ROOT

BANNED = re.compile(
    r"\b(nobody|somebody|whoever|anybody|everybody|knows|knew|told|believes|believe|beside|besides which"
    r"|says|said|walls?|the way out|ways out|but for|lest|hitherto|thereof)\b",
    re.IGNORECASE,
)


def sentences(text: str) -> Iterator[tuple[int, str]]:
    """Yield comments, docstrings, messages of errors and names of tests, each with its line."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(docstring))):
                yield node.lineno, docstring
            case ast.FunctionDef(name=name) if name.startswith("test_"):
                yield node.lineno, name.replace("_", " ")
            case ast.Raise(exc=ast.Call(args=arguments)):
                for part in (inner for value in arguments for inner in ast.walk(value)):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield part.lineno, part.value
            case _:
                pass


def found(path: Path) -> list[str]:
    """Return the banned words of a file, each with its place."""
    return [
        f"{path.relative_to(ROOT)}:{line}: {word}"
        for line, sentence in sentences(path.read_text())
        for word in BANNED.findall(sentence)
    ]


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])
def test_no_banned_word_in_a_page(page: Path) -> None:
    # Code blocks hold output and code, which is tested where it stands.
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    assert not BANNED.findall(prose)


@pytest.mark.parametrize("folder", ["src/unmask", "tests", "benchmarks", "tools"])
def test_no_banned_word(folder: str) -> None:
    files = [path for path in sorted((ROOT / folder).rglob("*.py")) if path != Path(__file__)]
    assert files
    wrong = [word for path in files for word in found(path)]
    assert not wrong, "\n".join(wrong)
