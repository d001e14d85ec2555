"""User ids are leased to one program at a time; its files are removed within a time limit."""

import os
import stat
import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from unmask.sandbox import user
from unmask.sandbox.user import (
    FIRST_UID,
    NUM_UIDS,
    Lease,
    lease_user,
    remove,
    remove_files_of,
)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


Leases = Callable[[], Lease]
FEW = FIRST_UID + NUM_UIDS


@pytest.fixture
def lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Leases]:
    """Lease one of three users, and give all back at the end."""
    monkeypatch.setattr(user, "LEASES", tmp_path / "leases")
    monkeypatch.setattr(user, "FIRST_UID", FEW)
    monkeypatch.setattr(user, "NUM_UIDS", 3)
    given: list[Lease] = []

    def take() -> Lease:
        given.append(lease_user())
        return given[-1]

    yield take
    for one in given:
        with suppress(OSError):  # the test may have given it back
            os.close(one.lock)


@as_root
def test_no_two_have_one_user(lease: Leases):
    leases = [lease() for _ in range(3)]
    assert {lease.uid for lease in leases} == {FEW, FEW + 1, FEW + 2}
    with pytest.raises(ValueError, match="every user id from 60000 to 60002 is in use"):
        lease()
    os.close(leases[1].lock)
    assert lease().uid == leases[1].uid


@as_root
def test_another_process_that_has_the_lock_keeps_the_user(lease: Leases):
    first = lease()
    with bystander(pass_fds=[first.lock]):
        os.close(first.lock)
        assert first.uid not in {lease().uid, lease().uid}


@as_root
def test_a_user_that_has_a_process_or_a_name_is_left_alone(
    lease: Leases, monkeypatch: pytest.MonkeyPatch
):
    def named(uid: int) -> None:
        if uid != FEW + 1:
            raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", named)
    with bystander(user=FEW):
        assert lease().uid == FEW + 2


@contextmanager
def bystander(**options: Any) -> Generator[None]:
    process = subprocess.Popen(["sleep", "60"], **options)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@as_root
def test_a_file_that_others_can_open_holds_no_leases(lease: Leases, tmp_path: Path):
    lease()
    (tmp_path / "leases").chmod(0o666)
    with pytest.raises(ValueError, match="must belong to root, with mode 0600"):
        lease()


def later(seconds: float = 60.0) -> float:
    return time.monotonic() + seconds


def test_a_deep_wide_and_closed_folder_is_removed(tmp_path: Path):
    folder, victim = tmp_path / "folder", tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("whole")
    (folder / "a" / "b" / "c").mkdir(parents=True)
    for number in range(50):
        (folder / "a" / f"file{number}").write_text("x")
        (folder / "a" / "b" / f"folder{number}").mkdir()
    (folder / "link").symlink_to(victim)
    (folder / "a" / "b" / "c" / "link").symlink_to(victim)
    (folder / "a" / "b").chmod(0)
    (folder / "a").chmod(0)
    assert remove(folder, later())
    assert not folder.exists()
    assert (victim / "file").read_text() == "whole"


def test_no_depth_is_too_deep(tmp_path: Path):
    # Kept in memory where there is such a place: what a disk takes for each folder is not what is tested.
    place = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else tmp_path
    folder = place / f"unmask-deep-{os.getpid()}"
    nest(folder, 5_000)
    assert remove(folder, later())


def test_removing_stops_at_the_deadline_and_can_go_on(tmp_path: Path):
    folder = tmp_path / "folder"
    nest(folder, 300)
    assert not remove(folder, later(-1))
    assert folder.exists()
    assert remove(folder, later())


def nest(folder: Path, depth: int) -> None:
    folder.mkdir()
    place = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=place)
        inner = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(place)


@as_root
def test_only_files_of_the_user_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(user, "PUBLIC", [str(tmp_path), "/no/such/place"])
    for name, uid in (("mine", 0), ("theirs", 40_001)):
        (tmp_path / name).write_text("x")
        (tmp_path / f"{name}-folder").mkdir()
        for path in (tmp_path / name, tmp_path / f"{name}-folder"):
            os.chown(path, uid, uid)
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    os.chown(tmp_path / "link", 40_001, 40_001, follow_symlinks=False)
    remove_files_of(40_001, later())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "mine-folder"]
    assert stat.S_ISREG((tmp_path / "mine").stat().st_mode)
