"""The source tree as the architecture tests read it: modules by dotted name, parsed, never imported."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "unmask"


@dataclass(frozen=True, slots=True)
class Module:
    """One file of the package."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def area(self) -> str:
        """`engine` for `unmask.engine.pages`, `types` for `unmask.types`, `__init__` for `unmask`."""
        return self.name.split(".")[1]


@dataclass(frozen=True, slots=True)
class Import:
    """One imported name, dotted, and whether importing the module runs it."""

    target: str
    line: int
    is_lazy: bool


@cache
def modules() -> tuple[Module, ...]:
    """Return every module of `unmask`, `unmask/engine/__init__.py` as `unmask.engine.__init__`."""
    return tuple(
        Module(
            name=".".join(("unmask", *path.relative_to(PACKAGE).with_suffix("").parts)),
            path=path,
            tree=ast.parse(path.read_text(), filename=str(path)),
        )
        for path in sorted(PACKAGE.rglob("*.py"))
    )


def imports(node: ast.AST, is_lazy: bool = False) -> Iterator[Import]:
    """Yield all imports below a node; those in a function or under `if TYPE_CHECKING` are lazy."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, is_lazy) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: write the import from unmask on"
            for alias in child.names:
                yield Import(f"{child.module}.{alias.name}", child.lineno, is_lazy)
        else:
            yield from imports(child, is_lazy or _defers(child))


def _defers(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
