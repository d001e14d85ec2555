"""A budget of code lines per room: a feature that needs more pays with a deletion, or argues for it here.

Lines of code are those with a token that is no comment and no docstring. The budgets are what the rooms
held when this table was last set, rounded up; the whole is the sum.
"""

import ast
import io
import tokenize
from collections import Counter
from pathlib import Path

from tests.architecture.source import modules

BUDGET = {
    "engine": 3890,
    "models": 3100,
    "trainers": 3100,
    "diffusion": 2450,
    "configs": 2420,
    "cli": 2380,
    "rewards": 2360,
    "checkpoints": 2250,
    "tasks": 1920,
    "sandbox": 1740,
    "runs": 1330,
    "viewer": 1230,
    "server": 1200,
    "evaluation": 1050,
    "data": 1050,
    "planning": 1040,
    "rollouts": 920,
    "files": 830,
    "exporting": 660,
    "importing": 580,
    "distributed": 560,
    "objectives": 520,
    "acceptance": 470,
}
NOT_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
BODIES = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def code_lines(path: Path) -> int:
    """Count the lines of a file that hold code: no blank, comment or docstring lines."""
    text = path.read_text()
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NOT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, BODIES):
            for statement in node.body:
                match statement:
                    case ast.Expr(value=ast.Constant(value=str()), end_lineno=int(end)):
                        lines -= set(range(statement.lineno, end + 1))
                    case _:
                        pass
    return len(lines)


def test_every_room_keeps_its_budget() -> None:
    found: Counter[str] = Counter()
    for module in modules():
        is_file = module.name.count(".") == 1
        found["files" if is_file else module.area] += code_lines(module.path)
    assert found.keys() == BUDGET.keys()
    over = [
        f"{room}: {found[room]} > {budget}"
        for room, budget in BUDGET.items()
        if found[room] > budget
    ]
    assert not over, "\n".join(over)


def test_docstrings_comments_and_blank_lines_are_not_counted(tmp_path: Path) -> None:
    file = tmp_path / "example.py"
    text = ['"""Doc."""', "", "# why", "x = 1  # here", "y: int = 2", '"""Of y."""', ""]
    text += ["def f():", '    """Doc."""', "    return (", "        1", "    )", ""]
    file.write_text("\n".join(text))
    assert code_lines(file) == 6
