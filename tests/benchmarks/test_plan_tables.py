"""The tables of docs/plan.md are the plans of the shipped configs."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_the_program_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    spec = importlib.util.spec_from_file_location("plan_tables", ROOT / "benchmarks/plan_tables.py")
    assert spec is not None and spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    page = program.PAGE.read_text()
    assert program.written(page) == page, "run benchmarks/plan_tables.py"
    for model in program.MODELS:
        for count in program.DEVICES:
            assert f"| {model.rpartition('/')[2]} | {count} |" in page
