#!/usr/bin/env python3
"""Test the package with the versions and extras that users have: a virtual environment and a test run for each row.

    python tools/matrix.py                       # every row whose Python is at hand
    python tools/matrix.py lowest trackers        # these rows
    python tools/matrix.py --table               # write docs/ci-matrix.md from the results

`uv` (on the path, or a module of this Python) resolves and installs: `pinned` by constraints.txt, `lowest` the lowest
versions that pyproject.toml allows, `newest` the newest. Results are kept in benchmarks/results/matrix.json; a row
that was never run is `not run` in the table. Where packages come from is the machine's own setting, as everywhere.
The whole suite with the pinned versions is `.ci/run`; a row runs the files that its versions or its extra can break.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "matrix.json"
PAGE = ROOT / "docs" / "ci-matrix.md"
BEGIN, END = "<!-- begin of the table -->\n", "<!-- end of the table -->\n"
RESOLUTIONS = {
    "pinned": ["--constraint", str(ROOT / "constraints.txt")],
    "lowest": ["--resolution", "lowest-direct"],
    "newest": ["--resolution", "highest"],
}
SHOWN = ("torch", "transformers", "pydantic", "numpy")
BASE = ("tensorboard", "puzzles", "gguf", "serve", "vision")
# What versions of dependencies can break: tokenizers, peft, automata, sympy, training, HTTP, reasoning_gym.
QUICK = (
    "tests/checkpoints/test_tokenizer.py",
    "tests/checkpoints/test_lora_files_peft.py",
    "tests/engine/test_structured.py",
    "tests/rewards/test_math_comparison.py",
    "tests/runs/test_metrics.py",
    "tests/server/test_app.py",
    "tests/tasks/test_reasoning_gym.py",
)


@dataclass(frozen=True, slots=True)
class Row:
    """An environment and the tests that run in it."""

    name: str
    resolution: str
    tests: tuple[str, ...]
    extras: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    """Further packages."""
    python: str = "3.11"


ROWS = (
    Row("pinned", "pinned", QUICK, BASE),
    Row("lowest", "lowest", QUICK, BASE),
    Row("newest", "newest", QUICK, BASE),
    Row(
        "data",
        "pinned",
        (
            "tests/data/test_record_files.py",
            "tests/tasks/test_prepare.py",
            "tests/tasks/test_sources.py",
            "tests/tasks/layouts/test_verl.py",
            "tests/trainers/test_sft_data.py",
        ),
        ("data",),
    ),
    Row(
        "lm-eval",
        "pinned",
        ("tests/evaluation/test_harness.py", "tests/server/test_harness.py"),
        ("lm-eval", "serve"),
        packages=("tenacity", "aiohttp"),
    ),
    Row(
        "trackers",
        "newest",
        ("tests/runs/test_trackers.py",),
        ("tensorboard", "wandb", "mlflow", "trackio", "swanlab"),
    ),
    Row(
        "peft",
        "pinned",
        (
            "tests/checkpoints/test_lora_files.py",
            "tests/checkpoints/test_lora_files_peft.py",
            "tests/models/test_lora.py",
        ),
    ),
    Row("openai", "pinned", ("tests/server/test_app.py", "tests/cli/test_serve.py"), ("serve",)),
    Row("ray", "pinned", ("tests/rollouts/test_workers.py",), ("ray",)),
    Row("torchao", "pinned", ("tests/trainers/optimizers/test_adamw_8bit.py",), ("torchao",)),
    Row("verifiers", "newest", ("tests/rewards/test_verifiers_tasks.py",), ("verifiers",)),
    *(Row(f"python-{v}", "newest", QUICK, BASE, python=v) for v in ("3.12", "3.13", "3.14")),
    Row("macos", "newest", QUICK, BASE, python="3.12"),
)


def uv() -> list[str]:
    """Return the command of uv.

    Raises:
        ValueError: it is not installed.
    """
    if path := shutil.which("uv"):
        return [path]
    if find_spec("uv"):
        return [sys.executable, "-m", "uv"]
    raise ValueError("uv is not installed: pip install uv")


def install(row: Row, place: Path, torch: str | None) -> Path:
    """Make the environment of a row, and return its Python; one that is there is used as it is.

    Args:
        row: the row.
        place: folder of the environment.
        torch: a version of torch in place of the resolved one, such as that of a CPU build at hand.
    """
    python = place / "bin" / "python"
    if python.exists():
        return python
    subprocess.run([*uv(), "venv", "-q", "--python", row.python, str(place)], check=True)
    package = f"{ROOT}[{','.join(('dev', *row.extras))}]"
    command = [*uv(), "pip", "install", "-q", "--python", str(python), *RESOLUTIONS[row.resolution]]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as override:
        if torch is not None:
            override.write(f"torch=={torch}\n")
            override.flush()
            command += ["--override", override.name]
        subprocess.run([*command, "--editable", package, *row.packages], check=True)
    return python


def tested(row: Row, python: Path) -> dict[str, Any]:
    """Run the tests of a row and return its result."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        words = ["-n", "0", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
        started = time.monotonic()
        subprocess.run(
            [str(python), "-m", "pytest", *words, *row.tests],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            check=False,
        )
        seconds = round(time.monotonic() - started)
        found = outcome(report.read_text() if report.exists() else "<testsuites/>")
    return {"versions": versions(python), **found, "seconds": seconds, "commit": commit()}


def outcome(report: str) -> dict[str, Any]:
    """Return what a report of pytest in JUnit's XML holds: counts, failed tests, and reasons of skips."""
    cases = list(ElementTree.fromstring(report).iter("testcase"))
    failed = [
        f"{case.get('classname')}.{case.get('name')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]
    skips = [str(found.get("message")) for case in cases for found in case.iter("skipped")]
    passed = len(cases) - len(failed) - len(skips)
    return {"passed": passed, "failed": failed, "skipped": len(skips), "reasons": sorted({*skips})}


def versions(python: Path) -> dict[str, str]:
    """Return the versions of an environment: of Python and of every package."""
    code = (
        "import json, platform; from importlib.metadata import distributions\n"
        "found = {'python': platform.python_version()}\n"
        # The first is the one that is imported, where a path lists a package twice.
        "for one in distributions(): found.setdefault(one.name.lower(), one.version)\n"
        "print(json.dumps(found))"
    )
    text = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    return dict(sorted(json.loads(text.stdout).items()))


def commit() -> str:
    """Return the commit that was tested, with a plus sign where files differ from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    head = git("rev-parse", "--short", "HEAD")
    return f"{head}+" if git("status", "--porcelain", "src", "tests") else head


def table(results: Mapping[str, Any]) -> str:
    """Return the results as a table in Markdown."""
    lines = [
        f"| row | Python | versions | extras | {', '.join(SHOWN)} | passed | failed | skipped | commit |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        extras = ", ".join((*row.extras, *row.packages)) or "none"
        found = results.get(row.name)
        if found is None:
            cells = [row.python, row.resolution, extras, "", "not run", "", "", ""]
        else:
            known = found["versions"]
            shown = ", ".join(known[name] for name in SHOWN)
            counts = [str(found["passed"]), str(len(found["failed"])), str(found["skipped"])]
            cells = [known["python"], row.resolution, extras, shown, *counts, found["commit"]]
        lines.append(f"| {' | '.join([row.name, *cells])} |")
    return "\n".join(lines) + "\n"


def page(text: str, results: Mapping[str, Any]) -> str:
    """Return the page with the table of the results."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table(results)}\n{END}{rest.split(END)[1]}"


def read_results() -> dict[str, Any]:
    """Return the kept results by row."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def main(words: Sequence[str] | None = None) -> int:
    """Run rows, and return 1 if a test of one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    names = [row.name for row in ROWS]
    parser.add_argument("rows", nargs="*", help=f"rows: {', '.join(names)}")
    parser.add_argument("--table", action="store_true", help="write the page from the results")
    parser.add_argument("--torch", help="version of torch in place of the resolved one")
    parser.add_argument("--environments", type=Path, default=ROOT / "build" / "matrix")
    asked = parser.parse_args(words)
    if unknown := sorted({*asked.rows} - {*names}):
        parser.error(f"no row {unknown[0]}; there are {', '.join(names)}")
    if asked.table:
        PAGE.write_text(page(PAGE.read_text(), read_results()))
        return 0
    is_red = False
    for row in ROWS:
        if row.name in (asked.rows or [one.name for one in ROWS if one.python == "3.11"]):
            found = tested(row, install(row, asked.environments / row.name, asked.torch))
            RESULTS.write_text(json.dumps(read_results() | {row.name: found}, indent=1) + "\n")
            sys.stdout.write(
                f"{row.name}: {found['passed']} passed, {len(found['failed'])} failed, "
                f"{found['skipped']} skipped {' '.join(found['failed'])}\n"
            )
            is_red = is_red or bool(found["failed"]) or not found["passed"]
    return int(is_red)


if __name__ == "__main__":
    sys.exit(main())
