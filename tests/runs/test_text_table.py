"""Columns stand under each other."""

import pytest

from unmask.runs.text_table import align


def test_columns_stand_under_each_other() -> None:
    assert align([("run", "steps", ""), ("a", "12/120", "x")], right=(1,)) == (
        "run   steps\na    12/120  x"
    )


def test_rows_are_of_one_length() -> None:
    with pytest.raises(ValueError, match="shorter"):
        align([("a", "b"), ("c",)])
