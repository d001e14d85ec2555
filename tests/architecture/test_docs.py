"""The pages name only what exists: files, functions of files, configuration keys."""

import ast
import re
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from unmask.configs.dpo import DPOConfig
from unmask.configs.eval import EvalConfig
from unmask.configs.grade import GradeConfig
from unmask.configs.keys import keys
from unmask.configs.load import flatten
from unmask.configs.reward_model import RewardModelConfig
from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig

PAGES = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md"),
    *sorted((ROOT / "docs").glob("*.md")),
]
# They name keys of others. `tests/importing` has the test of the table of dLLM-RL, `tests/docs` that of verl.
FOREIGN = {"coming-from-dllm-rl.md", "coming-from-verl.md"}
KINDS = (SFTConfig, DPOConfig, RewardModelConfig, RLConfig, EvalConfig, GradeConfig)
KEYS = [key for kind in KINDS for key in keys(kind)]
SECTIONS = {key.name.partition(".")[0].removesuffix("[]") for key in KEYS}
# Sections of earlier versions.
GONE = {"mask", "noise", "objective", "value"}
SUFFIXES = r"\.(?:py|md|toml|json|jsonl|html|js|svg|png|safetensors)\b"
# Programs of others, and examples of files to write; a file whose text follows is one too.
OF_OTHERS = {"generate.py", "program.py", "my_rewards.py", "my_family.py", "my_task.py"}

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
DOTTED = re.compile(r"[a-z_]+(?:\.[A-Za-z_]\w*)+")
SETTING = re.compile(r"(?:^|\s)([a-z_]+(?:\.\w+)*)=")


def snippets(page: Path) -> list[str]:
    """Return the code in a page's sentences and tables."""
    return CODE.findall(FENCE.sub("", page.read_text()))


def files(name: str) -> list[Path]:
    """Return the files that a page may mean: from the root, below a usual folder, or by base name."""
    folders = [ROOT, ROOT / "src" / "unmask", ROOT / "docs", ROOT / "benchmarks"]
    found = [folder / name for folder in folders if (folder / name).is_file()]
    if found or "/" in name:
        return found
    return [path for top in ("src", "tests") for path in (ROOT / top).rglob(name)]


def is_key(name: str) -> bool:
    """Return whether a name is a key, a section, or an attribute shared by every kind of it."""
    return any(
        key.names(name)
        or key.name.replace("[]", "").startswith(f"{name}.")
        or key.name == name
        # A table with names that a file chooses.
        or (key.type == "table" and name.startswith(f"{key.name}."))
        for key in KEYS
    )


def named_keys(page: Path) -> Iterator[str]:
    """Yield what a page gives as configuration keys: in sentences, in commands and in TOML examples."""
    for snippet in snippets(page):
        first = DOTTED.match(snippet)
        is_file = re.search(SUFFIXES, snippet) or "(" in snippet
        if first and not is_file and first[0].partition(".")[0] in SECTIONS | GONE:
            yield first[0]
    for language, text in FENCE.findall(page.read_text()):
        if language == "bash":
            for line in text.splitlines():
                if re.match(r"unmask (sft|rl|eval|grade|rescore|config) ", line):
                    yield from SETTING.findall(line.partition("#")[0])
        elif language == "toml":
            yield from (name for name, _ in flatten(tomllib.loads(text)))


def functions(path: Path) -> set[str]:
    """Return the names of functions and classes of a file."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_exist(page: Path) -> None:
    named = {
        name
        for snippet in snippets(page)
        for name in re.findall(r"(?<![\w*/.])[\w./-]+\.py\b", snippet)
        if "NAME" not in name
    }
    named |= set(re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()))
    named -= OF_OTHERS | set(re.findall(r"^`([\w/]+\.py)`:$", page.read_text(), re.MULTILINE))
    assert not {name for name in named if not files(name) and not (page.parent / name).exists()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_functions_are_in_their_files(page: Path) -> None:
    """`path/to/file.py: function` names both."""
    named = [
        (found[1], found[2])
        for snippet in snippets(page)
        if (found := re.fullmatch(r"([\w./]+\.py): (\w+)(?:\.\w+)?", snippet))
    ]
    wrong = [
        f"{name}: {function}"
        for name, function in named
        if not any(function in functions(path) for path in files(name))
    ]
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_keys_exist(page: Path) -> None:
    if page.name not in FOREIGN:
        assert not [name for name in named_keys(page) if not is_key(name)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_headings(page: Path) -> None:
    for target, heading in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text()):
        text = (page.parent / target if target else page).read_text()
        titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
        assert heading in anchors, f"{target}#{heading}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_imports_of_examples_resolve(page: Path) -> None:
    text = page.read_text()
    # Modules whose text the page gives.
    own = {name.replace("/", ".") for name in re.findall(r"^`([\w/]+)\.py`:$", text, re.MULTILINE)}
    for _, program in (found for found in FENCE.findall(text) if found[0] == "python"):
        for node in ast.walk(ast.parse(program)):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            if module.partition(".")[0] == "unmask" and module.removeprefix("unmask.") not in own:
                for alias in node.names if isinstance(node, ast.ImportFrom) else ():
                    of_package = ROOT / "src" / module.replace(".", "/") / f"{alias.name}.py"
                    is_there = of_package.is_file() or hasattr(import_module(module), alias.name)
                    assert is_there, f"{module}: {alias.name}"


def test_the_checks_find_what_is_wrong() -> None:
    assert is_key("views.kind") and is_key("reward") and is_key("variations.static.strategy")
    assert not is_key("value.enabled") and not is_key("views.nothing")
    assert files("diffusion/trace.py") and not files("diffusion/nothing.py")
    assert "trace_views" in functions(files("diffusion/trace.py")[0])
