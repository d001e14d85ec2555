"""What starts at once: `import unmask`, `unmask.configs`, `unmask --help` load no heavy library."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import unmask
from tests.architecture.source import modules

TENSORS = {"torch", "numpy", "transformers", "safetensors", "huggingface_hub"}
HEAVY = {*TENSORS, "reasoning_gym", "math_verify", "sympy"}


def start(*command: str) -> tuple[str, set[str]]:
    """Run a command; return what it printed and the top-level modules it imported."""
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    times = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    said = [line for line in done.stderr.splitlines() if line not in times]
    assert done.returncode == 0, "\n".join(said)
    return done.stdout, {line.rsplit("|")[-1].strip().split(".")[0] for line in times}


def test_package_starts_at_once() -> None:
    _, loaded = start(sys.executable, "-c", "from unmask import SamplingParams, __version__")
    assert "unmask" in loaded
    assert not loaded & {*HEAVY, "pydantic"}


def test_windows_is_refused_in_a_sentence() -> None:
    program = "import sys; sys.platform = 'win32'; import unmask"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "ImportError: unmask runs on Linux and macOS, not"
    )


def test_configs_start_without_tensors() -> None:
    names = [module.name for module in modules() if module.area == "configs"]
    _, loaded = start(sys.executable, "-c", f"import {', '.join(names)}")
    assert "pydantic" in loaded
    assert not loaded & TENSORS


@pytest.mark.parametrize(
    "command",
    [(sys.executable, "-m", "unmask"), (str(Path(sys.executable).with_name("unmask")),)],
    ids=["module", "script"],
)
def test_help_starts_at_once(command: tuple[str, ...]) -> None:
    printed, loaded = start(*command, "--help")
    assert "Usage" in printed
    assert not loaded & {*HEAVY, "pydantic"}


@pytest.mark.parametrize(
    "name",
    [
        *("quickstart", "sft", "rl", "eval", "generate", "chat", "config", "runs", "show"),
        *("doctor", "grade", "rescore", "compare", "lm-eval", "convert", "init", "inspect"),
        *("verify", "serve"),
    ],
)
def test_help_of_a_command_loads_no_tensors(name: str) -> None:
    """Typer itself loads pydantic here, for the types of a command's options."""
    printed, loaded = start(sys.executable, "-m", "unmask", name, "--help")
    assert "Usage" in printed
    assert not loaded & HEAVY


def test_public_names_are_there() -> None:
    assert dir(unmask) == sorted(unmask.__all__)
    assert all(getattr(unmask, name) for name in unmask.__all__)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = unmask.nonsense
