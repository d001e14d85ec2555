"""The Python of the pages runs: the blocks of a page in order, in one namespace, in a folder of its own.

Where a page names a checkpoint, a tiny random model stands at that path.
"""

import os
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tests.docs.blocks import Block, of, write_files
from unmask.checkpoints.random_init import init

LANGUAGES = ("python",)
# Paths of the pages that hold a model.
MODELS = ("path/or/hub-id", "JetLM/SDAR-1.7B-Chat", "runs/quickstart/rl/model")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint whose tokenizer reads any text."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    init(folder, "sdar")
    return folder


@pytest.fixture
def place(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a folder that holds the models of the pages."""
    for name in MODELS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(model)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]


def names_before(page: str, model: Path) -> dict[str, Any]:
    """Return what a page supposes that its reader has, and write the files."""
    from unmask import LLM, SamplingParams, load_model

    match page:
        case "docs/evaluate.md":
            Path("questions.jsonl").write_text(
                '{"question": "2 + 2?", "ground_truth_answer": "4"}\n'
            )
            return {}
        case "docs/viewer.md":
            return {"llm": LLM(model), "SamplingParams": SamplingParams}
        case "docs/checkpoints.md":
            return {"other": load_model(model)}
        case _:
            return {}


PAGES = [(page, list(group)) for page, group in groupby(of(*LANGUAGES), lambda block: block.page)]


@pytest.mark.parametrize("block", of(*LANGUAGES), ids=str)
def test_python_compiles(block: Block) -> None:
    compile(block.text, str(block), "exec")


@pytest.mark.parametrize(("page", "written"), PAGES, ids=[page for page, _ in PAGES])
def test_python_runs(page: str, written: list[Block], place: Path, model: Path) -> None:
    write_files(page, place)
    names = names_before(page, model)
    for block in written:
        if not block.note and not block.file:
            # The line numbers of an error are those of the page.
            program = compile("\n" * block.line + block.text, page, "exec")
            exec(program, names)
    assert Path.cwd() == place and os.environ["HF_HUB_OFFLINE"] == "1"
