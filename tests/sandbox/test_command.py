"""The command that starts an isolated process."""

import sys
from itertools import pairwise
from pathlib import Path

import pytest

from unmask.sandbox.command import (
    Bind,
    interpreter,
    isolated,
    python_command,
)

BINDS = [Bind(Path("/usr/lib"), Path("/usr/lib")), Bind(Path("/usr/lib"), Path("/deep/inside"))]


def words_after(command: list[str], option: str) -> list[str]:
    return [after for word, after in pairwise(command) if word == option]


def command(monkeypatch: pytest.MonkeyPatch, user: int, may_change_user: bool) -> list[str]:
    monkeypatch.setattr("os.geteuid", lambda: user)
    return isolated("bubblewrap", ["run"], BINDS, 1234, may_change_user)


def test_bubblewrap_shows_the_binds_and_an_empty_folder(monkeypatch: pytest.MonkeyPatch):
    words = command(monkeypatch, 1000, may_change_user=True)
    assert words[-2:] == ["--", "run"]
    assert {"--unshare-pid", "--unshare-net", "--unshare-ipc", "--die-with-parent"} <= set(words)
    assert words_after(words, "--ro-bind") == ["/usr/lib", "/usr/lib"]
    assert words_after(words, "--tmpfs") == ["/tmp"]
    assert words_after(words, "--size") == ["1234"]
    assert words_after(words, "--remount-ro") == ["/"]
    assert "/deep" in words_after(words, "--dir")


def test_only_root_needs_capabilities_and_only_to_change_the_user(
    monkeypatch: pytest.MonkeyPatch,
):
    needed = ["CAP_SETUID", "CAP_SETGID", "CAP_KILL"]
    assert words_after(command(monkeypatch, 0, True), "--cap-add") == needed
    assert words_after(command(monkeypatch, 0, False), "--cap-add") == []
    assert words_after(command(monkeypatch, 1000, True), "--cap-add") == []
    assert "--unshare-user" in command(monkeypatch, 1000, True)
    assert "--unshare-user" not in command(monkeypatch, 0, True)


def test_missing_and_already_visible_paths_are_not_bound(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    paths = [Path("/usr"), Path("/usr/lib"), Path("/usr"), Path("/no/such/path")]
    words = isolated("bubblewrap", ["run"], [Bind(path, path) for path in paths], 1, False)
    assert words_after(words, "--ro-bind") == ["/usr"]


def test_the_backend_limits_does_not_change_the_command():
    assert isolated("limits", ["run", "it"], BINDS, 1, True) == ["run", "it"]


def test_this_interpreter_is_described_without_asking_it():
    python = interpreter()
    assert python.executable.exists()
    assert python.prefix == Path(sys.base_prefix)
    assert (python.packages / "pydantic").is_dir()
    assert "-S" in python_command(python, "module", {"a": 1})


def test_another_interpreter_is_asked():
    assert interpreter(Path(sys.executable)).packages == interpreter().packages
    with pytest.raises(
        ValueError, match=r"task\.sandbox\.python = /no/such/python: it does not run"
    ):
        interpreter(Path("/no/such/python"))
