"""`unmask doctor`: what this machine has, what is missing, and the command that installs it.

The command changes nothing; a file that tests whether a directory can be written is deleted at once.
Required are only the packages of `pyproject.toml` and a writable directory for runs. Everything else (a
GPU, an extra, isolation of programs that a model wrote) is a note with a remedy. Isolation is tried
rather than inferred: a kernel may offer namespaces and a container may forbid them.
"""

import importlib.metadata
import os
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from unmask import __version__
from unmask.runs.text_table import align
from unmask.sandbox.isolation import ALLOW, BACKENDS, describe_isolation, isolation_of, try_backend

# Packages whose versions explain most differences; the other versions follow from these.
SHOWN = ("torch", "transformers", "safetensors", "pydantic", "reasoning-gym", "sympy")
# Widths of models whose products are tried.
WIDTHS = (64, 192, 576, 1024, 2048, 4096)
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Finding:
    """One checked item.

    Attributes:
        subject: name of the item.
        found: its state.
        way_out: the remedy; empty where none is needed.
        is_required: whether unmask cannot work without the remedy.
    """

    subject: str
    found: str
    way_out: str = ""
    is_required: bool = False


def examine(directory: Path) -> list[Finding]:
    """Return findings on versions, devices, threads, exactness, isolation, extras and the run directory.

    Args:
        directory: directory for runs; it need not exist.
    """
    return [
        *_versions(),
        *_devices(),
        _threads(),
        *_exactness(),
        _isolation(),
        *_packages(),
        *_storage(directory),
    ]


def is_fit(findings: list[Finding]) -> bool:
    """Return whether nothing required is missing."""
    return not any(finding.is_required and finding.way_out for finding in findings)


def report(findings: list[Finding]) -> str:
    """Return the findings as a table, followed by the remedies."""
    rows = [(_mark(finding), finding.subject, finding.found) for finding in findings]
    ways = [f"  {f.subject}: {f.way_out}" for f in findings if f.way_out]
    verdict = (
        "Nothing required is missing."
        if is_fit(findings)
        else "Something required is missing: see the lines marked MISSING."
    )
    return "\n".join(
        (align(rows), "", *(["What can be done:", *ways, ""] if ways else []), verdict)
    )


def _mark(finding: Finding) -> str:
    if not finding.way_out:
        return "ok"
    return "MISSING" if finding.is_required else "note"


def _versions() -> Iterator[Finding]:
    yield Finding("unmask", __version__)
    yield Finding("python", f"{platform.python_version()} ({sys.executable})")
    for name in SHOWN:
        if version := _version(name):
            yield Finding(name, version)


def _packages() -> Iterator[Finding]:
    """Yield a finding on the requirements of unmask and one per extra, with the command that installs them."""
    pip = f"{sys.executable} -m pip install"
    if _version("unmask") is None:
        found = (
            "unmask runs from its source and is not installed: its requirements cannot be checked"
        )
        yield Finding("packages", found, f"{pip} -e . in the directory of its source")
        return
    extras = importlib.metadata.metadata("unmask").get_all("Provides-Extra") or ()
    # `all` requires unmask with the other extras, which have a finding each.
    for extra in ("", *(extra for extra in extras if extra != "all")):
        missing = _missing(extra)
        found = f"missing: {', '.join(missing)}" if missing else "installed"
        way_out = f"{pip} {shlex.join(missing)}" if missing else ""
        subject = f"extra {extra}" if extra else "packages"
        yield Finding(subject, found, way_out, is_required=not extra)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _missing(extra: str) -> list[str]:
    """Return the requirements of unmask itself, or of one extra, that are not met."""
    from packaging.requirements import Requirement

    found: list[str] = []
    for requirement in map(Requirement, importlib.metadata.requires("unmask") or ()):
        marker, version = requirement.marker, _version(requirement.name)
        # Requirements of unmask itself hold under every extra; those of an extra do not hold without it.
        holds = [name for name in ("", extra) if not marker or marker.evaluate({"extra": name})]
        # Pre-releases count: an installed nightly build was chosen by the user.
        is_met = version and requirement.specifier.contains(version, prereleases=True)
        if holds[:1] == [extra] and not is_met:
            requirement.marker = None
            found.append(str(requirement))
    return found


def _devices() -> Iterator[Finding]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    yield Finding(
        "cpu", f"{platform.machine()}, {os.cpu_count()} cores, {memory:.1f} GiB of memory"
    )
    try:
        import torch
    except ImportError:
        return
    for index in range(torch.cuda.device_count()):
        free, total = (size / GIB for size in torch.cuda.mem_get_info(index))
        name = torch.cuda.get_device_name(index)
        yield Finding(f"cuda:{index}", f"{name}, {free:.1f} of {total:.1f} GiB free")
    if torch.cuda.device_count():
        return
    if Path("/proc/driver/nvidia").exists():
        build = f"torch {torch.__version__} sees no GPU, but an NVIDIA driver is loaded"
        yield Finding("gpu", build, "install a torch build for CUDA, as its own page lists them")
    else:
        yield Finding("gpu", "none: everything runs on the CPU")


def _threads() -> Finding:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    chosen = os.environ.get("OMP_NUM_THREADS", "not set")
    return Finding(
        "threads",
        f"a run uses run.threads (default 1) of {usable} usable cores; OMP_NUM_THREADS is {chosen}",
    )


def _exactness() -> Iterator[Finding]:
    """Try which rows a product needs here, so that a response has the same bits alone and in a batch."""
    try:
        import torch

        from unmask.models.row_tile import Product, attention_holds, tile_of
    except ImportError:
        return
    tiles = {width: tile_of(Product(width, width)) for width in WIDTHS}
    chosen = ", ".join(f"{tile or 'none'} at {width}" for width, tile in tiles.items())
    found = f"fp32 on the CPU: rows of a product in tiles of {chosen}"
    if all(tiles.values()) and attention_holds(128, 2, torch.get_num_threads()):
        yield Finding("exactness", f"law 1 holds; {found}")
    else:
        way_out = "none; a response's numbers differ in the last bits with the rest of its batch"
        yield Finding("exactness", f"law 1 does not hold everywhere; {found}", way_out)


def _isolation() -> Finding:
    """Try the kinds of isolation of programs that a model wrote."""
    trials = [try_backend(backend) for backend in BACKENDS]
    working = [trial for trial in trials if trial.works]
    best = working[0].backend if working else None
    if best and isolation_of(best) == "namespaces":
        found = f"{describe_isolation(best)}: no network, no other processes, only Python's files"
        return Finding("isolation", found)
    found = "none: programs that a model wrote cannot be run"
    if best:
        found = f'{describe_isolation("limits")}, if task.sandbox.isolation = "process"'
    tried = "; ".join(f"{trial.backend}: {trial.reason}" for trial in trials if not trial.works)
    way_out = f"{ALLOW}; needed only to run programs that a model wrote"
    return Finding("isolation", f"{found} ({tried})", way_out)


def _storage(directory: Path) -> Iterator[Finding]:
    """Try to write where runs go, or in the nearest folder above that exists."""
    place = next(path for path in (directory, *directory.absolute().parents) if path.is_dir())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        way_out = f"give another place: run.dir=... (here {error.strerror or error})"
        yield Finding("runs", f"{place} cannot be written", way_out, is_required=True)
    else:
        yield Finding("runs", f"{directory} can be written")
    free = shutil.disk_usage(place).free / GIB
    way_out = "" if free >= 1 else "make room: checkpoints are as large as the model"
    yield Finding("free disk", f"{free:.1f} GiB", way_out)
