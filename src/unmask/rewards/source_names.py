"""Names in Python source that is read and never run."""

import ast
import builtins
from collections.abc import Sequence


def names_used(source: str) -> set[str]:
    """Return the names that a module reads.

    Raises:
        SyntaxError: it is no Python.
    """
    nodes = ast.walk(ast.parse(source))
    return {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def names_bound(nodes: Sequence[ast.AST]) -> set[str]:
    """Return every name that anything in a module binds, in whatever scope."""
    stored = {n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    given = {getattr(n, field, None) for n in nodes for field in ("name", "asname", "arg")}
    return stored | {str(name).partition(".")[0] for name in given if name}


def names_missing(source: str) -> set[str]:
    """Return the names that a module reads and nothing in it binds; none where it is no Python."""
    try:
        nodes = [*ast.walk(ast.parse(source))]
        return names_used(source) - names_bound(nodes) - {*dir(builtins)}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
