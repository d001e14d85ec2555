"""Which part of a response is the program."""

import pytest

from unmask.rewards.programs import program_from_response


@pytest.mark.parametrize(
    ("response", "program"),
    [
        ("```python\nx = 1\n```", "x = 1\n"),
        ("First:\n```python\nx = 1\n```\nBetter:\n```python\nx = 2\n```\nDone.", "x = 2\n"),
        ("```python\nx = 1\n```\nIt prints\n```\n1\n```", "x = 1\n"),
        ("```py\nx = 1\n```", "x = 1\n"),
        ("```Python3 title\nx = 1\n```", "x = 1\n"),
        ("```\nx = 1\n```", "x = 1\n"),
        ("```json\n{}\n```\n```\nx = 1\n```", "x = 1\n"),
        ("1. So:\n  ```python\n  if x:\n    x = 1\ny = 2\n  ```", "if x:\n  x = 1\ny = 2\n"),
        ("```python\nx = 1", "x = 1"),
        ("    return 1\n", "    return 1\n"),
        ("", ""),
        ('```python\ns = "```"\nx = 1\n```', 's = "```"\nx = 1\n'),
        ("```python\n```", ""),
        ("```python\r\nx = 1\r\n```\r\nDone.", "x = 1\r\n"),
    ],
)
def test_the_last_python_block_is_the_program(response: str, program: str):
    assert program_from_response(response) == program


def test_many_fences_are_read_in_linear_time():
    assert program_from_response("```python\n" * 20_000) is not None
