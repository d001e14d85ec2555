"""Results of `tools/gpu_check`: one record per part, in a file of its own and in one file of all.

Both are written as soon as a part ends, and replaced at once, so that a killed run loses only the part that was
running. A result belongs to the code it was measured on (`source`, a digest of all code files, which also
distinguishes changes that are not committed), to a card, to a version of torch and to a size; a folder
holds one kind of device and one size.
"""

import hashlib
import json
import math
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).parents[2]
MERGED = "gpu_check.json"
CODE = ("src/**/*.py", "tools/**/*.py", "benchmarks/*.py", "configs/**/*.toml")

Status = Literal["passed", "failed", "measured", "not run"]


@dataclass(frozen=True, slots=True)
class Code:
    """What was measured.

    Attributes:
        commit: of the repository, with `-dirty` if files differ from it; `unknown` outside a repository.
        source: digest of the code files.
    """

    commit: str
    source: str


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of a part.

    Attributes:
        name: file name of the part.
        title: what is checked or measured.
        group: heading under which it stands.
        status: `measured` where the part has no condition.
        passed: whether its condition holds; `None` where it has none or was not run.
        summary: one line with the figures that matter, or why there are none.
        figures: everything measured.
        seconds: that it took.
        traceback: of the exception, and the end of the output, where it failed.
        device: `cuda` or `cpu`.
        is_tiny: toy sizes.
        code: what was measured.
        machine: card, driver, and versions of torch, triton, CUDA and Python.
        date: UTC, ISO 8601.
    """

    name: str
    title: str
    group: str
    status: Status
    summary: str
    seconds: float
    device: str
    is_tiny: bool
    code: Code
    machine: Mapping[str, str]
    date: str
    passed: bool | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)
    traceback: str = ""

    @property
    def is_finished(self) -> bool:
        """Whether the part need not be run again: it passed, or was measured."""
        return self.status in ("passed", "measured")


class Store:
    """The results in a folder.

    Raises:
        ValueError: the folder holds results of another device or size.
    """

    def __init__(self, folder: Path, parts: Path, device: str, is_tiny: bool) -> None:
        self.results = read_results(folder / MERGED)
        self._folder, self._parts = folder, parts
        for result in self.results.values():
            if (result.device, result.is_tiny) != (device, is_tiny):
                raise ValueError(
                    f"--out {folder}: holds results of --device {result.device}"
                    f"{' --tiny' if result.is_tiny else ''}; give another folder"
                )
        parts.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)

    def finished(self, name: str, source: str, machine: Mapping[str, str]) -> Result | None:
        """Return the result of a part that need not be run again for this code, card and version of torch."""
        found = self.results.get(name)
        if found is None or not found.is_finished or found.code.source != source:
            return None
        is_same = all(found.machine[key] == machine[key] for key in ("card", "torch"))
        return found if is_same else None

    def write(self, result: Result) -> None:
        """Write a result; one of a part that was not run replaces none that was measured."""
        old = self.results.get(result.name)
        if result.status == "not run" and old is not None and old.status != "not run":
            return
        self.results[result.name] = result
        write_json(self._parts / f"{result.name}.json", asdict(result))
        write_json(self._folder / MERGED, {n: asdict(r) for n, r in sorted(self.results.items())})


def read_results(path: Path) -> dict[str, Result]:
    """Return the results of a merged file by part; none if there is no such file."""
    if not path.exists():
        return {}
    found: dict[str, dict[str, Any]] = json.loads(path.read_text())
    return {name: Result(**{**own, "code": Code(**own["code"])}) for name, own in found.items()}


def write_json(path: Path, value: Any) -> None:
    """Write JSON, replacing an older file at once."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(plain(value), indent=1, allow_nan=False) + "\n")
    temporary.replace(path)


def plain(value: Any) -> Any:
    """Return a value as JSON holds it: NaN and infinities, and what JSON has no type for, as text."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case _ if isinstance(value, Iterable) and not hasattr(value, "shape"):
            return [plain(item) for item in value]
        case _:
            return str(value)


def describe_code(commit: str | None) -> Code:
    """Return commit and digest of the code here; `commit` is what to note where there is no repository."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in CODE for path in ROOT.glob(pattern)}):
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return Code(commit or commit_here() or "unknown", digest.hexdigest()[:16])


def commit_here() -> str | None:
    """Return the commit of the repository, with `-dirty` if code files differ; `None` outside one."""
    head = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--", "src", "tools", "configs", "benchmarks/*.py")
    return None if head is None else head + ("-dirty" if changed else "")


def _git(*words: str) -> str | None:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    command = ["git", "-C", str(ROOT), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
