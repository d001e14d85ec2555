"""The compact wording of `mini_sudoku`."""

from unmask.tasks.wordings.mini_sudoku import WORDING

SOLUTION = [[3, 1, 2, 4], [2, 4, 3, 1], [4, 3, 1, 2], [1, 2, 4, 3]]
PUZZLE = [[0, 0, 2, 0], [0, 4, 0, 1], [4, 3, 0, 0], [0, 0, 0, 0]]
ENTRY = {"metadata": {"puzzle": PUZZLE, "solution": SOLUTION}}


def test_sixteen_cells():
    assert WORDING.question(ENTRY) == "0020040143000000"
    assert WORDING.demonstration(ENTRY) == "3124243143121243"


def test_sixteen_characters_are_laid_out_as_a_grid_and_nothing_else_is():
    assert WORDING.answer("3124243143121243") == "3 1 2 4\n2 4 3 1\n4 3 1 2\n1 2 4 3"
    for response in ("", "312424314312124", "31242431431212431", "3124\n2431\n4312\n1243"):
        assert WORDING.answer(response) == response
