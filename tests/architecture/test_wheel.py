"""A wheel holds all that the package reads: configs, the report's parts, the type marker."""

import subprocess
import sys
import zipfile
from pathlib import Path

from tests.architecture.source import ROOT


def test_a_wheel_builds_and_is_complete(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "src", "configs"):
        (source / name).symlink_to(ROOT / name)
    build = ["pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", *build, "--wheel-dir", tmp_path, source],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("unmask-*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "src" / "unmask"
    read = [
        *package.glob("viewer/**/*.*"),
        *package.glob("server/*.*"),
        *package.glob("**/*.toml"),
        package / "py.typed",
    ]
    wanted = {f"unmask/{path.relative_to(package)}" for path in read}
    assert len(wanted) > 10
    assert wanted <= held, wanted - held
