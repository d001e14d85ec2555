"""The level of isolation is tried, chosen, and demanded with a way out."""

from pathlib import Path

import pytest

from unmask.sandbox import isolation
from unmask.sandbox.command import Means
from unmask.sandbox.isolation import (
    MEANS,
    Trial,
    best_walls,
    choose_means,
    level_of,
    try_means,
)


def machine(monkeypatch: pytest.MonkeyPatch, works: set[str]) -> None:
    def tried(means: Means, python: Path | None = None) -> Trial:
        return Trial(means, means in works, "" if means in works else "it said no")

    monkeypatch.setattr(isolation, "try_means", tried)


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
    assert choose_means(isolation) == chosen  # type: ignore[arg-type]


@pytest.mark.parametrize("isolation", ["best", "namespaces"])
def test_a_lesser_machine_is_refused_with_the_way_out(
    isolation: str, monkeypatch: pytest.MonkeyPatch
):
    machine(monkeypatch, {"limits"})
    said = (
        rf"task\.sandbox\.isolation = '{isolation}'.*bubblewrap: it said no; unshare: it said no"
        r'.*install the package bubblewrap.*or set task\.sandbox\.isolation = "process"'
    )
    with pytest.raises(ValueError, match=said):
        choose_means(isolation)  # type: ignore[arg-type]
    machine(monkeypatch, set())
    with pytest.raises(ValueError, match="limits: it said no"):
        choose_means("process")
    assert best_walls() == "limits"


def test_each_means_is_tried_for_real_and_says_why_not():
    for means in MEANS:
        trial = try_means(means)
        assert trial.means == means
        assert trial.works == (not trial.said)


def test_what_fails_is_quoted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("unmask.sandbox.command.SYSTEM", ())
    monkeypatch.setattr("unmask.sandbox.command.DEVICES", ("/dev/no-such-device",))
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/bwrap")
    trial = try_means.__wrapped__("bubblewrap")
    assert not trial.works
    assert trial.said


def test_levels_have_names():
    assert [level_of(means) for means in MEANS] == ["namespaces", "namespaces", "process"]


def test_programs_run_on_linux_only(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.platform", "darwin")
    assert try_means.__wrapped__("limits") == Trial("limits", False, "programs run on Linux only")
