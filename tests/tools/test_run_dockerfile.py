"""The Dockerfile copies what its context holds, installs extras that exist, and its instructions can be run."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from tools import run_dockerfile
from tools.run_dockerfile import Machine, instructions, stages

FOUND = instructions((ROOT / "Dockerfile").read_text())
STAGES = stages(FOUND)


def arguments(stage: str, word: str) -> list[str]:
    return [argument for name, argument in STAGES[stage] if name == word]


def test_continued_lines_and_stages_are_read() -> None:
    text = "# why\nFROM a AS b\nRUN x \\\n  && y\nFROM b AS c\nENV k=v\n"
    assert stages(instructions(text)) == {
        "b": [("RUN", "x    && y")],
        "c": [("RUN", "x    && y"), ("ENV", "k=v")],
    }


def test_there_is_a_stage_for_each_kind_of_device() -> None:
    assert [*STAGES] == ["base", "cpu", "cuda"]
    images = {argument.partition(" AS ")[0] for word, argument in FOUND if word == "FROM"}
    assert images == {"python:3.11-slim", "base"}


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_copied_is_in_the_context(stage: str) -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    copied = {name for argument in arguments(stage, "COPY") for name in argument.split()[:-1]}
    assert copied <= kept and "*" in lines
    assert stage == "base" or copied == kept
    assert all((ROOT / name).exists() for name in kept)


@pytest.mark.parametrize("stage", STAGES)
def test_commands_parse(stage: str) -> None:
    for command in arguments(stage, "RUN"):
        subprocess.run(["sh", "-n"], input=command, text=True, check=True)


@pytest.mark.parametrize("stage", ["cpu", "cuda"])
def test_extras_exist(stage: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = (a.removeprefix("EXTRAS=") for a in arguments(stage, "ARG") if "EXTRAS" in a)
    assert {*extras.split(",")} <= project["optional-dependencies"].keys()


def test_instructions_leave_no_trace(tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "a.txt").write_text("a")
    machine = Machine(tmp_path / "scratch", context)
    try:
        machine.run("true")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine allows no overlays: it takes root on Linux")
    place = f"/opt/unmask-test-{os.getpid()}"
    machine.follow("ARG", "GIVEN=0", {"GIVEN": "1"})
    machine.follow("ARG", "ABSENT", {})
    machine.follow("ENV", "KEY=value OTHER='two words'", {})
    machine.follow("WORKDIR", place, {})
    machine.follow("COPY", "a.txt b.txt", {})
    machine.follow("RUN", 'test "$GIVEN$KEY$OTHER${ABSENT:-none}" = "1valuetwo wordsnone"', {})
    machine.follow("RUN", f"test $(cat {place}/b.txt) = a", {})
    assert not Path(place).exists()
    with pytest.raises(subprocess.CalledProcessError):
        machine.follow("RUN", "false", {})
    with pytest.raises(ValueError, match="SHELL: not an instruction"):
        machine.follow("SHELL", "[]", {})


def test_the_command_line_reaches_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(run_dockerfile, "run_stage", lambda *words: calls.append(words))
    options = ["cuda", "--build-arg", "EXTRAS=serve", "--then", "config --help"]
    monkeypatch.setattr(sys, "argv", ["run_dockerfile.py", *options])
    run_dockerfile.main()
    assert calls[0][:3] == (STAGES["cuda"], {"EXTRAS": "serve"}, ["config", "--help"])
