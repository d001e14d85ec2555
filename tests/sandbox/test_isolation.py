"""Backends are tried and chosen; if none works, the error names what to do."""

from pathlib import Path

import pytest

from unmask.sandbox import isolation
from unmask.sandbox.command import Backend
from unmask.sandbox.isolation import (
    BACKENDS,
    Trial,
    best_backend,
    choose_backend,
    isolation_of,
    try_backend,
)


def machine(monkeypatch: pytest.MonkeyPatch, works: set[str]) -> None:
    def tried(backend: Backend, python: Path | None = None) -> Trial:
        return Trial(backend, backend in works, "" if backend in works else "it said no")

    monkeypatch.setattr(isolation, "try_backend", tried)


@pytest.mark.parametrize(
    ("isolation", "works", "chosen"),
    [
        ("best", {"bubblewrap", "unshare", "limits"}, "bubblewrap"),
        ("best", {"unshare", "limits"}, "unshare"),
        ("namespaces", {"unshare", "limits"}, "unshare"),
        ("process", {"bubblewrap", "unshare", "limits"}, "limits"),
    ],
)
def test_the_strongest_that_is_admitted_is_chosen(
    isolation: str, works: set[str], chosen: str, monkeypatch: pytest.MonkeyPatch
):
    machine(monkeypatch, works)
    assert choose_backend(isolation) == chosen  # type: ignore[arg-type]


@pytest.mark.parametrize("isolation", ["best", "namespaces"])
def test_a_machine_without_the_isolation_is_refused_with_a_solution(
    isolation: str, monkeypatch: pytest.MonkeyPatch
):
    machine(monkeypatch, {"limits"})
    said = (
        rf"task\.sandbox\.isolation = '{isolation}'.*bubblewrap: it said no; unshare: it said no"
        r'.*install the package bubblewrap.*or set task\.sandbox\.isolation = "process"'
    )
    with pytest.raises(ValueError, match=said):
        choose_backend(isolation)  # type: ignore[arg-type]
    machine(monkeypatch, set())
    with pytest.raises(ValueError, match="limits: it said no"):
        choose_backend("process")
    assert best_backend() == "limits"


def test_each_backend_is_tried_and_gives_a_reason_if_it_fails():
    for backend in BACKENDS:
        trial = try_backend(backend)
        assert trial.backend == backend
        assert trial.works == (not trial.reason)


def test_the_error_of_a_failing_backend_is_quoted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("unmask.sandbox.command.SYSTEM", ())
    monkeypatch.setattr("unmask.sandbox.command.DEVICES", ("/dev/no-such-device",))
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/bwrap")
    trial = try_backend.__wrapped__("bubblewrap")
    assert not trial.works
    assert trial.reason


def test_levels_have_names():
    assert [isolation_of(backend) for backend in BACKENDS] == [
        "namespaces",
        "namespaces",
        "process",
    ]


def test_programs_run_on_linux_only(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.platform", "darwin")
    assert try_backend.__wrapped__("limits") == Trial("limits", False, "programs run on Linux only")
