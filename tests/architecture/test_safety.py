"""Nothing that is read may run: no pickles, no remote code, no `eval`; and no registry is named."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.source import ROOT, imports, modules

# Modules that may do one of these, and why: {"unmask.area.module": {"exec": "reason"}}.
ALLOWED: dict[str, dict[str, str]] = {
    "unmask.sandbox.guest.main": {"exec": "the program, inside the sandbox: what it is for"},
    "unmask.rewards.code_tests": {"exec": "the data set's own tests, in a worker process"},
    "unmask.acceptance.reference_code": {
        "trust_remote_code": "verify --published: off by default, in a process of its own"
    },
}

RUNS_WHAT_IT_READS = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
CALLS = {"eval", "exec", "torch.load", "torch.hub.load"}
LAST_NAMES = {name.rpartition(".")[2] for name in CALLS}

PROSE = {".md", ".toml", ".txt", ".yaml", ".yml", ".py", ".cfg", ".json", ".sh", ""}
MADE = {"runs", "build", "dist", "__pycache__"}
# A registry's host, or the address of a package index: `pip config` decides, never a file of ours.
REGISTRY = re.compile(
    r"(?:https?://|\.)?\b(?:[\w-]+\.)*(?:pypi|pythonhosted|npmjs|yarnpkg|conda|debian|download\.pytorch)"
    r"\.(?:org|com|io|net)\b"
    r"|https?://\S*/(?:simple|whl|wheels)\b",
    re.IGNORECASE,
)


def last_name(called: ast.expr) -> str:
    """Return `load` for `torch.load`: to write out every call takes seconds."""
    match called:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def dangers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and name of everything in a module that would run what it reads."""
    for found in imports(tree):
        if found.target.split(".")[0] in RUNS_WHAT_IT_READS:
            yield found.line, found.target.split(".")[0]
        elif found.target in CALLS:
            yield found.line, found.target
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if last_name(node.func) in LAST_NAMES:
                name = ast.unparse(node.func).removeprefix("builtins.")
                if name in CALLS:
                    yield node.lineno, name
            for keyword in node.keywords:
                is_off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                if keyword.arg == "trust_remote_code" and not is_off:
                    yield node.lineno, keyword.arg


def files() -> Iterator[Path]:
    """Yield the text files of the repository: no environments, no caches, no runs."""
    for path in ROOT.rglob("*"):
        place = path.relative_to(ROOT).parts
        is_made = place[0] in MADE or any(
            part in {"__pycache__"} or part.endswith(".egg-info") for part in place
        )
        is_tool = place[0].startswith(".") and place[0] not in {".ci", ".pre-commit-config.yaml"}
        if path.is_file() and path.suffix in PROSE and not is_made and not is_tool:
            yield path


def test_dangers_are_recognised() -> None:
    bad = "import pickle\nfrom torch import load\neval('1')\ntorch.load(p)\nf(trust_remote_code=x)"
    assert {line for line, _ in dangers(ast.parse(bad))} == {1, 2, 3, 4, 5}
    good = "model.eval()\nf(trust_remote_code=False)\nre.compile('eval(')"
    assert not list(dangers(ast.parse(good)))


def test_nothing_runs_what_it_reads() -> None:
    wrong = [
        f"{module.path}:{line}: {name}"
        for module in modules()
        for line, name in dangers(module.tree)
        if name not in ALLOWED.get(module.name, {})
    ]
    assert not wrong, "\n".join(wrong)


def test_exceptions_are_still_needed() -> None:
    used = {(module.name, name) for module in modules() for _, name in dangers(module.tree)}
    assert {(module, name) for module, names in ALLOWED.items() for name in names} <= used


def test_registries_are_recognised() -> None:
    host = ".".join(["files", "pythonhosted", "org"])
    assert REGISTRY.search(f"see {host}/packages")
    assert REGISTRY.search("/".join(["https://mirror.example", "simple", ""]))
    assert not REGISTRY.search("pip config set global.index-url ADDRESS; a simple pypi package")


def test_no_registry_is_named() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {found.group()}"
        for path in files()
        if (found := REGISTRY.search(path.read_text(errors="replace")))
    ]
    assert not wrong, "\n".join(wrong)
