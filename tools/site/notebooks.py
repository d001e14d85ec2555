"""Execute the notebooks of `docs/` and store what they print: `python -m tools.site.notebooks`.

The code cells run in order in one namespace of this process, in an empty folder, without a Jupyter kernel,
so they hold Python alone: no magics, no shell. What a cell prints and the value of its last line are its
outputs, as in a notebook.
"""

import ast
import contextlib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.site.places import ROOT

Cell = dict[str, Any]


def notebooks() -> list[Path]:
    """Return the notebooks of the site."""
    return sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def code_cells(notebook: dict[str, Any]) -> Iterator[Cell]:
    """Yield the cells that are executed."""
    yield from (cell for cell in notebook["cells"] if cell["cell_type"] == "code")


def execute(notebook: dict[str, Any], folder: Path) -> list[list[dict[str, Any]]]:
    """Run the code cells in a folder, which is the working directory meanwhile; return each cell's outputs."""
    names: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.chdir(folder):
        return [_outputs("".join(cell["source"]), names) for cell in code_cells(notebook)]


def _outputs(source: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    value = None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "cell", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    found: list[dict[str, Any]] = []
    if text := printed.getvalue():
        found.append({"output_type": "stream", "name": "stdout", "text": _lines(text)})
    if value is not None:
        data = {"text/plain": _lines(repr(value))}
        if hasattr(value, "_repr_html_"):
            data = {"text/html": _lines(value._repr_html_()), **data}
        result = {"output_type": "execute_result", "execution_count": None, "metadata": {}}
        found.append({**result, "data": data})
    return found


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main() -> None:
    """Execute every notebook and write it with its outputs."""
    for path in notebooks():
        notebook = json.loads(path.read_text())
        with tempfile.TemporaryDirectory() as folder:
            outputs = execute(notebook, Path(folder))
        for cell, found in zip(code_cells(notebook), outputs, strict=True):
            cell["outputs"], cell["execution_count"] = found, None
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
