"""The source distribution builds a wheel that holds all the package reads and works in any directory."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
import yaml

from tests.architecture.source import PACKAGE, ROOT
from unmask import __version__

# What MANIFEST.in and setuptools put into a source distribution.
SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CITATION.cff")
BUILD = "import sys; from setuptools import build_meta; build_meta.{}(sys.argv[1])"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def build(kind: str, source: Path, out: Path) -> Path:
    """Build a `sdist` or a `wheel` of a source folder."""
    out.mkdir()
    command = [sys.executable, "-c", BUILD.format(f"build_{kind}"), out]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (file,) = out.iterdir()
    return file


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the unpacked source distribution of a clone, tests included."""
    folder = tmp_path_factory.mktemp("sdist")
    source = folder / "clone"
    source.mkdir()
    for name in (*SOURCES, "constraints.txt"):
        shutil.copy(ROOT / name, source)
    for name in ("src", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    (source / "tests").mkdir()
    shutil.copy(__file__, source / "tests")
    with tarfile.open(build("sdist", source, folder / "built")) as archive:
        archive.extractall(folder, filter="data")
    return folder / f"unmask-{__version__}"


@pytest.fixture(scope="module")
def installed(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the contents of the wheel that the source distribution builds."""
    folder = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(build("wheel", sdist, folder / "built")) as wheel:
        wheel.extractall(folder / "installed")
    return folder / "installed"


@pytest.fixture(scope="module")
def metadata(installed: Path) -> Message:
    (file,) = installed.glob("unmask-*.dist-info/METADATA")
    return Parser().parsestr(file.read_text())


def unmask(installed: Path, *words: str) -> str:
    """Run the command of an unpacked wheel in an empty directory, and return what it prints."""
    empty = installed.parent / "empty"
    empty.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "unmask", *words],
        cwd=empty,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder, compiled ones left out."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_wheel_of_the_source_distribution_is_complete(installed: Path) -> None:
    configs = {f"shipped/{name}": text for name, text in contents(ROOT / "configs").items()}
    assert len(configs) > 50
    assert contents(installed / "unmask") == contents(PACKAGE) | configs


def test_a_source_distribution_has_no_tests(sdist: Path) -> None:
    assert (sdist / "configs").is_dir() and not (sdist / "tests").exists()


def test_the_package_holds_no_link() -> None:
    assert not [path for path in PACKAGE.rglob("*") if path.is_symlink()]


def test_a_wheel_runs_in_any_directory(installed: Path) -> None:
    assert "quickstart" in unmask(installed, "--help")
    assert "--task" in unmask(installed, "quickstart", "--help")
    program = (
        "from unmask.trainers.quickstart import shipped_config as s; print(s('rl', 'countdown'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()).read_text() == (ROOT / "configs/rl/countdown.toml").read_text()


@pytest.mark.parametrize("words", ["rl/chain_sum methods/spg", "configs/rl/chain_sum.toml"])
def test_a_wheel_takes_shipped_configurations_by_name(installed: Path, words: str) -> None:
    resolved = unmask(installed, "config", *words.split())
    assert re.search(r"^steps = 60 +# shipped rl/chain_sum$", resolved, re.MULTILINE)
    assert tomllib.loads(resolved)["epochs"] == (4 if "spg" in words else 1)


def test_metadata(metadata: Message) -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert metadata["Version"] == citation["version"]
    assert metadata["License-Expression"] == citation["license"]
    assert [metadata["Author"]] == [author["name"] for author in citation["authors"]]
    assert metadata["Description-Content-Type"] == "text/markdown"
    description = metadata.get_payload()
    assert isinstance(description, str) and "unmask quickstart" in description
    if "Source" not in PROJECT["urls"]:
        assert not re.findall(r"\]\((?!\w+:|#)", description)


# Extras for work on the project, and trackers that exclude what constraints.txt pins.
NOT_IN_ALL = {"all", "dev", "docs", "kernels", "swanlab", "trackio", "verifiers"}


def test_extra_all_is_every_extra_of_a_user() -> None:
    extras = PROJECT["optional-dependencies"]
    named = re.fullmatch(r"unmask\[([\w,-]+)\]", extras["all"][0])
    assert named is not None and len(extras["all"]) == 1
    assert named[1].split(",") == sorted(extras.keys() - NOT_IN_ALL)


def test_extras_that_are_named_exist() -> None:
    """Messages, pages and the README name extras as `unmask[a,b]` or `.[a,b]`."""
    texts = [
        *PACKAGE.rglob("*.py"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "README.md",
        ROOT / "Makefile",
    ]
    named = {
        extra
        for path in texts
        for extras in re.findall(r"""(?:unmask|['" ]\.)\[([a-z,0-9-]+)\]""", path.read_text())
        for extra in extras.split(",")
    }
    assert {"serve", "data", "puzzles"} <= named <= PROJECT["optional-dependencies"].keys()


def test_links_of_the_readme_are_absolute_or_text() -> None:
    spec = importlib.util.spec_from_file_location("unmask_setup", ROOT / "setup.py")
    assert spec is not None and spec.loader is not None
    setup = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(setup)
    readme = "![a](docs/a.svg)\n\n[b](docs/b.md#c), [d](https://e.org), [f](#g)"
    assert setup.long_description(readme, None) == "b, [d](https://e.org), [f](#g)"
    assert setup.long_description(readme, "https://h.org/i") == (
        "![a](https://h.org/i/raw/main/docs/a.svg)\n\n"
        "[b](https://h.org/i/blob/main/docs/b.md#c), [d](https://e.org), [f](#g)"
    )
