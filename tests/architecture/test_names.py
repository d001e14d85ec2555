"""Names that say nothing are refused, and a module's test stands where the module stands."""

import ast
import re
from pathlib import PurePath

from tests.architecture.source import PACKAGE, ROOT, modules

SAYS_NOTHING = {"utils", "util", "common", "helpers", "helper", "misc", "base", "manager"}
# A name that will be wrong when the next one comes.
SAYS_WHEN = {"v2", "new", "fast", "ext"}
# A checkpoint family is called what its authors call it.
PUBLISHED = {"fast_dllm_v2", "test_fast_dllm_v2"}

# Modules without a test of their own, and why.
TESTED_ELSEWHERE = {
    "unmask.objectives.loss": "two records, used by every test of a loss",
    "unmask.__main__": "two lines, started by architecture/test_startup.py",
}


def is_refused(name: str) -> bool:
    """Say whether a module, function or class may not be called this."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_")
    return snake in SAYS_NOTHING | SAYS_WHEN or snake.rsplit("_")[-1] in SAYS_WHEN | {"manager"}


def parts(path: PurePath) -> tuple[str, ...]:
    """Return the folders and the module of a path: what an import would spell."""
    return path.with_suffix("").parts


def test_refused_names_are_recognised() -> None:
    assert all(map(is_refused, ["utils", "sampler_v2", "PageManager", "new", "_fast"]))
    assert not any(map(is_refused, ["baseline", "text", "renew", "fasten", "database", "__new__x"]))


def test_names_of_modules_are_specific() -> None:
    files = [
        path.relative_to(ROOT) for top in ("src", "tests") for path in (ROOT / top).rglob("*.py")
    ]
    assert not [str(p) for p in files if any(map(is_refused, {*parts(p)} - PUBLISHED))]


def test_names_of_functions_and_classes_are_specific() -> None:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    wrong = [
        f"{module.path}:{node.lineno}: {node.name}"
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, kinds) and not node.name.startswith("__") and is_refused(node.name)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_module_has_its_test() -> None:
    missing = []
    for module in modules():
        place = module.path.relative_to(PACKAGE)
        test = ROOT / "tests" / place.with_name(f"test_{place.name}")
        is_exempt = place.name == "__init__.py" or module.area in ("configs", "importing")
        if not (is_exempt or module.name in TESTED_ELSEWHERE or test.exists()):
            missing.append(f"{module.name}: no {test.relative_to(ROOT)}")
    assert not missing, "\n".join(missing)


def test_exceptions_are_still_needed() -> None:
    assert set(TESTED_ELSEWHERE) <= {module.name for module in modules()}
