"""Parts whose outcome is known, as files of a package of their own."""

from pathlib import Path

from tools.gpu.harness import Plan

HEAD = """\
import os, subprocess, time
import torch
from tools.gpu.part import Outcome, Part
"""
PARTS = {
    "right": ("return Outcome('1 of 1', True, {'nan': float('nan')})", ""),
    # As a device that an illegal access broke, which cannot be had here.
    "breaks": (
        "import __main__; __main__.is_usable = lambda: False; return Outcome('', True, {'pid': os.getpid()})",
        "",
    ),
    "wrong": ("return Outcome('0 of 1', False)", ""),
    "number": ("return Outcome(f'{os.environ.get(\"LEFT\")} {torch.get_default_dtype()}')", ""),
    "leaves": (
        "os.environ['LEFT'] = 'x'; torch.set_default_dtype(torch.float64); return Outcome('done')",
        "",
    ),
    "raises": ("raise ValueError('sizes differ')", ""),
    "ends": ("print('last words of', os.getpid(), flush=True); os._exit(7)", ""),
    "hangs": (
        "child = subprocess.Popen(['sleep', '600']); print('child', child.pid, flush=True); time.sleep(600)",
        ", limit_s=0.3",
    ),
    "newer": ("return Outcome('ran')", ", needs_torch='99.1'"),
    "long": ("return Outcome('ran')", ", is_default=False"),
}


def write(folder: Path, name: str, body: str, more: str = "") -> None:
    """Write one part."""
    limit = "" if "limit_s" in more else ", limit_s=60"
    text = f"{HEAD}def run(setting):\n    {body}\n"
    text += f"PART = Part('title of {name}', 'correctness', run{limit}{more})\n"
    (folder / f"{name}.py").write_text(text)


def write_all(place: Path) -> Plan:
    """Write all parts below a folder, and return a plan of those that are run by default."""
    package = f"fake_parts_of_{place.name}".replace("-", "_")
    folder = place / "path" / package
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "broken.py").write_text("import no_such_module\n")
    for name, (body, more) in PARTS.items():
        write(folder, name, body, more)
    return Plan(
        device="cpu",
        is_tiny=True,
        is_all=False,
        only=(),
        out=place / "out",
        parts=place / "out" / "parts",
        is_again=False,
        budget_s=600.0,
        package=package,
    )
