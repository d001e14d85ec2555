"""What is missing is named with the command that mends it, and only what is required is an error."""

import importlib.metadata
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.engine.bits import bits_hold
from tests.models.other_processor import multiply_by, other_below
from unmask.cli import doctor
from unmask.cli.doctor import Finding, examine, is_fit, report
from unmask.sandbox.command import Backend
from unmask.sandbox.isolation import Trial

REQUIRES = [
    "pydantic>=2",
    "torch>=2",
    "absent-package[cuda]>=3; python_version > '3'",
    "ancient>=1; python_version < '3'",
    "absent-board>=2.16; extra == 'tensorboard'",
    "pytest>=8; extra == 'dev'",
    "unmask[tensorboard]; extra == 'all'",
]


def by_subject(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings}


def test_this_machine_is_fit(tmp_path: Path) -> None:
    findings = examine(tmp_path / "runs")
    found = by_subject(findings)
    assert is_fit(findings)
    assert found["torch"].found == importlib.metadata.version("torch")
    assert {
        "unmask",
        "python",
        "cpu",
        "threads",
        "exactness",
        "isolation",
        "runs",
        "free disk",
    } <= set(found)
    assert list(tmp_path.iterdir()) == []
    text = report(findings)
    assert text.endswith("Nothing required is missing.")
    assert all(finding.found in text for finding in findings)


def test_missing_packages_come_with_their_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: REQUIRES)
    monkeypatch.setattr(
        importlib.metadata, "metadata", lambda name: _Metadata(["all", "tensorboard", "dev"])
    )
    findings = examine(Path())
    found = by_subject(findings)
    assert found["packages"].found == "missing: absent-package[cuda]>=3"
    pip = f"{sys.executable} -m pip install"
    assert found["packages"].way_out == f"{pip} 'absent-package[cuda]>=3'"
    assert found["extra tensorboard"].found == "missing: absent-board>=2.16"
    assert found["extra tensorboard"].way_out == f"{pip} 'absent-board>=2.16'"
    assert found["extra dev"].found == "installed"
    assert "extra all" not in found
    assert not is_fit(findings)
    lines = report(findings).splitlines()
    assert any(line.startswith("MISSING") and "packages" in line for line in lines)
    assert any(line.startswith("note") and "extra tensorboard" in line for line in lines)


def test_a_source_that_is_not_installed_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda package: None)
    findings = examine(Path())
    found = by_subject(findings)
    assert "not installed" in found["packages"].found
    assert "pip install -e ." in found["packages"].way_out
    assert is_fit(findings)
    assert not any(subject.startswith("extra") for subject in found)


class _Metadata:
    """What is used of a package's metadata."""

    def __init__(self, extras: list[str]) -> None:
        self.extras = extras

    def get_all(self, name: str) -> list[str]:
        return self.extras


@pytest.mark.parametrize(
    ("works", "found"),
    [
        ({"bubblewrap", "unshare", "limits"}, "namespaces, by bubblewrap: no network"),
        ({"unshare", "limits"}, "namespaces, by our own system calls"),
        (
            {"limits"},
            r'process, with.* Landlock, if .* = "process" \(bubblewrap: it refused; unshare: it refused',
        ),
        (set(), "none: programs that a model wrote cannot be run"),
    ],
)
def test_isolation_is_tried(works: set[str], found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def tried(backend: Backend) -> Trial:
        return Trial(backend, backend in works, "it refused")

    monkeypatch.setattr(doctor, "try_backend", tried)
    isolation = by_subject(examine(Path()))["isolation"]
    assert re.search(found, isolation.found)
    assert ("bubblewrap" in isolation.way_out) == works.isdisjoint({"bubblewrap", "unshare"})
    assert not isolation.is_required


@pytest.mark.parametrize(
    ("rows", "found", "is_exact"),
    [
        (8, "law 1 holds; .* tiles of 8 at 64, 8 at 192, 8 at 576, .* 8 at 4096", True),
        (16, "law 1 holds; .* tiles of 8 at 64, 16 at 192, 16 at 576, .* 16 at 4096", True),
        (1024, "law 1 does not hold everywhere; .* 8 at 64, none at 192, ", False),
    ],
)
def test_exactness_is_tried(
    rows: int, found: str, is_exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not bits_hold():
        pytest.skip("this CPU does not keep the bits")
    multiply_by(other_below(rows), monkeypatch)
    exactness = by_subject(examine(Path()))["exactness"]
    assert re.search(found, exactness.found)
    assert bool(exactness.way_out) != is_exact and not exactness.is_required


def test_a_place_that_cannot_be_written_is_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(dir: Path) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    findings = examine(tmp_path / "deep" / "runs")
    runs = by_subject(findings)["runs"]
    assert runs.found == f"{tmp_path} cannot be written"
    assert "run.dir=..." in runs.way_out
    assert not is_fit(findings)


def test_a_full_disk_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 2**20})
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    findings = examine(tmp_path)
    assert by_subject(findings)["free disk"].found == "0.0 GiB"
    assert by_subject(findings)["free disk"].way_out
    assert is_fit(findings)
