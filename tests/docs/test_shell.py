"""The commands of the pages: their programs exist and take their options, and configurations are valid.

A command of `unmask` is parsed by the command line itself. The words of one that takes a configuration are
loaded: files that a reader would have are left out, and what every run needs is added.
"""

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from tests.architecture.source import ROOT
from tests.docs.blocks import Block, of, write_files
from tests.forked_python import run_python
from unmask.cli.main import app
from unmask.cli.options import kind_of
from unmask.configs.grade import GradeConfig
from unmask.configs.load import load_config
from unmask.configs.shipped import FOLDER, name_of, text_of
from unmask.runs.defaults import CONFIGS

LANGUAGES = ("bash", "sh", "console")
UNMASK = get_command(app)
EXTRAS = set(
    tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
)
KINDS = {**CONFIGS, "grade": GradeConfig, "trace": CONFIGS["sft"], "rescore": CONFIGS["eval"]}
# Programs of others, which are not looked into. `torchrun`: tests/architecture/test_launchers.py.
OTHERS = {
    "printf",
    "vf-eval",
    "cd",
    "curl",
    "grep",
    "torchrun",
    "export",
    "git",
    "tail",
    "head",
    "cat",
    "mkdir",
    "echo",
    "conda",
    "docker",
}
ASSIGNED = re.compile(r"[A-Z_]+=")
# The README's: tests/architecture/test_readme.py.
TUTORIALS = sorted({block.page for block in of(*LANGUAGES) if block.is_run} - {"README.md"})
# A module that a reader writes.
OF_READER = re.compile(r"=my_\w+:")
COMMENT = re.compile(r"(?:^|\s)#.*$", re.MULTILINE)


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each simple command."""
    text = COMMENT.sub("", text.replace("\\\n", " "))
    for line in text.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&")
        lexer.whitespace_split, lexer.commenters = True, ""
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set(";|&"):
                while words and ASSIGNED.match(words[0]):
                    words.pop(0)
                if words:
                    yield words
                words = []
            else:
                words.append(word)


def without_redirection(words: list[str]) -> list[str]:
    """Return the words in front of `> file` or `< file`."""
    end = next(
        (
            index
            for index, word in enumerate(words)
            if word.lstrip("12")[:1] in ("<", ">") and len(word) < 4
        ),
        None,
    )
    return words[:end]


def check_unmask(words: list[str], folder: Path) -> None:
    """Parse the words of `unmask`; load the configuration that they give, if any.

    Raises:
        typer.exceptions.TyperException: the command line refuses them.
        ValueError: the configuration is not valid.
    """
    name, *rest = (word for word in words if word != "--debug")
    assert name in UNMASK.commands or name in ("--version", "--help"), name
    if name not in UNMASK.commands or "--help" in rest:
        return
    parsed = UNMASK.commands[name].make_context(name, rest)
    given = list(parsed.params.get("words") or ())
    if name == "config" and given[0] == "print":
        assert text_of(given[1])
    elif name in ("config", "plan") and given[0] not in ("import", "list"):
        name, given = kind_of(given, name)
    if name in KINDS and given:
        check_configuration(name, given, folder)


def check_configuration(kind: str, words: list[str], folder: Path) -> None:
    """Load the words of a command that takes a configuration."""
    lines = ['model.path = "-"']
    lines += ['task.kind = "json"', 'task.train = "-"', 'task.test = "-"'] * (
        kind != "reward-model"
    )
    base = folder / "needed.toml"
    base.write_text("\n".join(lines))
    files = [
        path
        for word in words
        for path in (folder / word, FOLDER / f"{name_of(word)}.toml")
        if "=" not in word and path.is_file()
    ]
    load_config(
        KINDS[kind],
        [*([] if files else [base]), *files],
        [word for word in words if "=" in word and not OF_READER.search(word)],
    )


def check_python(words: list[str], folder: Path) -> None:
    """Check that a program exists and names its options."""
    if words[0] == "-m":
        assert words[1] in (
            "unmask",
            "tools.site",
            "tools.site.layers",
            "mkdocs",
            "venv",
            "pip",
            "pytest",
        ), words
        if words[1] == "unmask":
            check_unmask(words[2:], folder)
        return
    (program,) = [path for top in (ROOT, ROOT / "benchmarks") if (path := top / words[0]).is_file()]
    if words[0] == "tools/gpu_check":
        from tools.gpu.main import build_parser

        build_parser().parse_args(words[1:])
        return
    # A program of `benchmarks` may take options of a module next to it.
    near = (
        [program, *program.parent.glob("*.py")]
        if program.parent.name == "benchmarks"
        else [program]
    )
    known = "".join(path.read_text() for path in near)
    assert not [word for word in words if word.startswith("--") and f'"{word}"' not in known], words


def check_command(words: list[str], folder: Path) -> None:
    """Check one command."""
    program, *rest = without_redirection(words)
    match program:
        case "unmask":
            check_unmask(rest, folder)
        case "python" | "python3":
            check_python(rest, folder)
        case "make":
            targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert {word for word in rest if "=" not in word} <= set(targets)
        case "pip" | "uv":
            extras = re.findall(r"(?:unmask|\.)\[([\w,-]+)\]", " ".join(rest))
            assert {extra for found in extras for extra in found.split(",")} <= EXTRAS
        case _:
            assert program in OTHERS, f"{program}: add a check of it, or add it to OTHERS"


@pytest.mark.parametrize("block", of(*LANGUAGES), ids=str)
def test_commands_are_valid(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        re.sub(r"^\$ ", "", block.text, flags=re.MULTILINE)
        if block.language == "console"
        else block.text
    )
    parsed = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert parsed.returncode == 0, parsed.stderr
    write_files(block.page, tmp_path)
    monkeypatch.chdir(tmp_path)
    for words in commands(text):
        try:
            check_command(words, tmp_path)
        except Exception as error:
            raise AssertionError(f"{shlex.join(words)}: {error}") from error


@pytest.mark.parametrize("page", TUTORIALS)
def test_a_tutorial_runs(page: str, tmp_path: Path) -> None:
    """Run the commands of a page in order, among its files."""
    write_files(page, tmp_path)
    for block in of(*LANGUAGES):
        for words in commands(block.text) if block.page == page and block.is_run else ():
            assert words[0] == "unmask"
            done = run_python(["-m", *words], cwd=tmp_path)
            assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(
    "line",
    [
        "unmask nothing",
        "unmask rl configs/rl/chain_sum.toml --nothing",
        "unmask rl configs/rl/chain_sum.toml optimizer.lr=-1",
        "A=1 unmask show runs/a --step x",
        "unmask runs | unmask view",
        "pip install 'unmask[nothing]'",
        "make nothing",
        "nothing",
        "python tools/gpu_check --nothing",
    ],
)
def test_a_wrong_command_is_found(line: str, tmp_path: Path) -> None:
    with pytest.raises((Exception, SystemExit)):
        for words in commands(line):
            check_command(words, tmp_path)
