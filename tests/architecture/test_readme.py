"""The README's commands work: blocks tagged `run` are run in order, the others must at least parse."""

import ast
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.architecture.source import ROOT

FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELLS = {"bash", "sh", "shell"}
TIME_LIMIT_S = 300


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, whether it is tagged `run`, its text."""

    language: str
    is_run: bool
    text: str


def blocks() -> list[Block]:
    """Return the README's command and Python blocks."""
    found = FENCE.findall((ROOT / "README.md").read_text())
    return [
        Block(language, "run" in tags.split(), text)
        for language, tags, text in found
        if language in {*SHELLS, "python"}
    ]


def test_blocks_parse() -> None:
    for block in blocks():
        if block.language == "python":
            ast.parse(block.text)
        else:
            done = subprocess.run(
                ["bash", "-n"], input=block.text, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{block.text}\n{done.stderr}"


def test_run_blocks_run(tmp_path: Path) -> None:
    """Blocks share one folder that shows the repository's, so that what they write stays out of it."""
    for name in ("benchmarks", "configs", "docs", "README.md"):
        if (ROOT / name).exists():
            (tmp_path / name).symlink_to(ROOT / name)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    runnable = [block for block in blocks() if block.is_run]
    assert runnable, "tag at least one block of README.md: ```bash run"
    for block in runnable:
        command = (
            [sys.executable, "-"] if block.language == "python" else ["bash", "-euo", "pipefail"]
        )
        done = subprocess.run(
            command,
            input=block.text,
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
