"""The notebooks run from the first cell to the last, and hold the outputs of a run.

Their code cells are executed in order in one namespace of this process (`tools/site/notebooks.py`), without
a Jupyter kernel; what needs one, such as a line that begins with % or !, is a syntax error here.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tools.site.notebooks import code_cells, execute, notebooks


def kinds(outputs: list[dict[str, Any]]) -> list[list[str]]:
    """Return what the outputs of a cell are, without their text, which other versions of torch change."""
    return [[one["output_type"], *sorted(one.get("data", {}))] for one in outputs]


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    notebook = json.loads(path.read_text())
    found = execute(notebook, tmp_path)
    sys.modules.pop("my_reward", None)
    stored = [cell["outputs"] for cell in code_cells(notebook)]
    assert any(stored), "python -m tools.site.notebooks"
    assert list(map(kinds, found)) == list(map(kinds, stored))


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_a_notebook_is_of_the_current_format(path: Path) -> None:
    notebook = json.loads(path.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    names = [cell["id"] for cell in notebook["cells"]]
    assert len(set(names)) == len(names) and all(re.fullmatch(r"[\w-]{1,64}", one) for one in names)
    assert notebook["cells"][0]["cell_type"] == "markdown"
    for cell in notebook["cells"]:
        is_code = cell["cell_type"] == "code"
        fields = {"id", "cell_type", "metadata", "source"} | (
            {"outputs", "execution_count"} if is_code else set()
        )
        assert set(cell) == fields


def test_outputs_are_those_of_a_notebook(tmp_path: Path) -> None:
    source = ["print(1)\n", "class A:\n", "    def _repr_html_(self): return '<b>'\n", "A()"]
    notebook = {
        "cells": [{"cell_type": "code", "source": source}, {"cell_type": "markdown", "source": []}]
    }
    ((printed, value),) = execute(notebook, tmp_path)
    assert printed == {"output_type": "stream", "name": "stdout", "text": ["1\n"]}
    assert value["data"]["text/html"] == ["<b>"]
    with pytest.raises(SyntaxError):
        execute({"cells": [{"cell_type": "code", "source": ["%matplotlib inline"]}]}, tmp_path)
