"""Names are found in source without running it."""

import ast

import pytest

from unmask.rewards.source_names import names_bound, names_missing, names_used


def test_names_that_are_read_and_names_that_are_bound():
    source = "import a.b as c, d.e\ndef f(x, *y, z=w):\n    for i in x: j = len(i)\nexcept_ = g"
    assert names_used(source) == {"w", "x", "len", "i", "g"}
    bound = names_bound([*ast.walk(ast.parse(source))])
    assert bound >= {"c", "d", "f", "x", "y", "z", "i", "j", "except_"}
    assert names_missing(source) == {"w", "g"}


@pytest.mark.parametrize("source", ["", "def f(", "\0", "(" * 10_000, "-" * 100_000 + "1"])
def test_no_python_misses_nothing(source: str):
    assert names_missing(source) == set()
