"""Names in Python source, found without running it."""

import ast
import builtins
from collections.abc import Sequence


def names_used(source: str) -> set[str]:
    """Return the names that a module reads.

    Raises:
        SyntaxError: the source is not Python.
    """
    nodes = ast.walk(ast.parse(source))
    return {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def names_bound(nodes: Sequence[ast.AST]) -> set[str]:
    """Return all names that a module binds, in any scope."""
    stored = {n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    given = {getattr(n, field, None) for n in nodes for field in ("name", "asname", "arg")}
    return stored | {str(name).partition(".")[0] for name in given if name}


def names_missing(source: str) -> set[str]:
    """Return the names that a module reads without binding them; none if it is not Python."""
    try:
        nodes = [*ast.walk(ast.parse(source))]
        return names_used(source) - names_bound(nodes) - {*dir(builtins)}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
