"""The packages that are gathered for a machine without a registry."""

from pathlib import Path

import pytest
from rich.console import Console

from tools.gpu import wheels
from tools.gpu.results import ROOT


def test_every_needed_package_has_a_tested_version() -> None:
    versions = wheels.read_versions((ROOT / "constraints.txt").read_text())
    assert {name.lower().replace("_", "-") for name in wheels.NEEDED} <= versions.keys()


def test_wheels_are_taken_for_python_3_12_only() -> None:
    assert wheels.is_for_python_3_12("zss-1.2.0-py3-none-any.whl")
    assert wheels.is_for_python_3_12("pytz-2026.6-py2.py3-none-any.whl")
    assert wheels.is_for_python_3_12("pycosat-0.6.6-cp312-cp312-linux_x86_64.whl")
    assert not wheels.is_for_python_3_12("pycosat-0.6.6-cp311-cp311-linux_x86_64.whl")


def test_what_cannot_be_had_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "NEEDED", {"zss": "trees"})
    monkeypatch.setattr(wheels, "fetch", lambda *_: None)
    with pytest.raises(ValueError, match="no wheel, and no source that nothing builds: zss"):
        wheels.gather(tmp_path, "nothing", Console(quiet=True))


def test_an_older_wheel_of_the_same_package_is_removed(tmp_path: Path) -> None:
    for name in ("zss-1.0-py3-none-any.whl", "zss-1.2-py3-none-any.whl", "pytz-1-py3-none-any.whl"):
        (tmp_path / name).touch()
    wheels.remove_others(tmp_path / "zss-1.2-py3-none-any.whl")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "pytz-1-py3-none-any.whl",
        "zss-1.2-py3-none-any.whl",
    ]
