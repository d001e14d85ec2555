"""Compact `mini_sudoku`: the prompt is the 16 cells row by row, 0 where empty; the response the 16 cells solved."""

from unmask.tasks.wording import Entry, Wording

SIDE = 4


def question(entry: Entry) -> str:
    """Return the puzzle's cells, 0 for an empty one."""
    return _cells(entry["metadata"]["puzzle"])


def demonstration(entry: Entry) -> str:
    """Return the solution's cells."""
    return _cells(entry["metadata"]["solution"])


def answer(response: str) -> str:
    """Return 16 characters as the package's grid, and any other response unchanged."""
    if len(response) != SIDE * SIDE:
        return response
    rows = (response[start : start + SIDE] for start in range(0, SIDE * SIDE, SIDE))
    return "\n".join(" ".join(row) for row in rows)


def _cells(board: list[list[int]]) -> str:
    return "".join(str(cell) for row in board for cell in row)


WORDING = Wording(question, demonstration, answer, alphabet="01234")
