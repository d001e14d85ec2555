"""The filter of system calls: its instructions for every processor, and its effect on this one."""

import errno
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.sandbox.guest import syscalls
from unmask.sandbox.guest.syscalls import (
    ALLOW,
    AUDIT_ARCH,
    CHECKED,
    CLONE_NEW,
    ERROR,
    FIRST_UNKNOWN,
    KILL,
    OF_A_PROCESS,
    REFUSED,
    filter_of,
    numbers,
)

REFUSE = ERROR | errno.EPERM
MACHINES = list(AUDIT_ARCH)
HEADERS = {"x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"}


def verdict(
    machine: str, number: int, *args: int, may_connect: bool = True, architecture: int | None = None
) -> int:
    """Run the filter on a call, as the kernel does."""
    words = [*args, *[0] * (6 - len(args))]
    data = struct.pack(
        "=IIQ6Q", number, architecture or AUDIT_ARCH[machine], 0, *(w % 2**64 for w in words)
    )
    code = list(filter_of(machine, may_connect))
    loaded = position = 0
    while True:
        kind, if_true, if_false, value = struct.unpack("=HBBI", code[position])
        position += 1
        match kind:
            case 0x20:
                (loaded,) = struct.unpack_from("=I", data, value)
            case 0x06:
                return value
            case _:
                tests = {0x15: loaded == value, 0x35: loaded >= value, 0x25: loaded > value}
                holds = tests.get(kind, bool(loaded & value))
                position += if_true if holds else if_false


def call(name: str, machine: str) -> int:
    return (numbers(REFUSED, machine) | numbers(CHECKED, machine))[name]


@pytest.mark.parametrize("machine", MACHINES)
def test_listed_calls_are_refused_and_needed_ones_allowed(machine: str):
    for name, number in numbers(REFUSED, machine).items():
        assert verdict(machine, number, 1, 1, 1) == REFUSE, name
    needed = {"x86_64": (0, 1, 9, 57, 58, 59, 202, 231), "aarch64": (56, 63, 64, 93, 98, 221, 222)}
    for number in needed[machine]:
        assert verdict(machine, number) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_newer_calls_are_missing_and_foreign_ones_end_the_process(machine: str):
    missing = ERROR | errno.ENOSYS
    assert verdict(machine, call("clone3", machine)) == missing
    assert verdict(machine, FIRST_UNKNOWN) == verdict(machine, 10_000) == missing
    assert verdict(machine, 0x40000000) == verdict(machine, 2**32 - 1) == KILL
    assert verdict(machine, 1, architecture=0x40000003) == KILL


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("name", "args", "found"),
    [
        ("clone", (0x00010F00 | 17,), ALLOW),
        ("clone", (0x01200000 | 17,), ALLOW),
        *(("clone", (1 << bit | 17,), REFUSE) for bit in (17, *range(25, 31))),
        *((name, (1, 1), ALLOW) for name in ("socket", "socketpair")),
        *(
            (name, (family, 1), ERROR | errno.EAFNOSUPPORT)
            for name in ("socket", "socketpair")
            for family in (0, 2, 10, 16, 17, 31, 38, 40, 44)
        ),
        ("setsockopt", (3, 1, 20), ALLOW),
        *(("setsockopt", (3, 1, size), REFUSE) for size in (7, 8, 32, 33)),
        ("listen", (3, 128), ALLOW),
        ("listen", (3, 129), REFUSE),
        ("listen", (3, 2**32 - 1), REFUSE),
        ("fcntl", (3, 4), ALLOW),
        ("fcntl", (3, 1031), REFUSE),
        ("rt_sigaction", (14, 0x7FFF00000000), ALLOW),
        ("rt_sigaction", (17, 0), ALLOW),
        ("rt_sigaction", (17, 0x7FFF12345678), REFUSE),
        ("rt_sigaction", (17, 0x7FFF00000000), REFUSE),
    ],
)
def test_arguments_are_looked_at(machine: str, name: str, args: tuple[int, ...], found: int):
    assert verdict(machine, call(name, machine), *args) == found


@pytest.mark.parametrize("machine", MACHINES)
def test_connecting_is_refused_where_the_file_system_is_the_machines(machine: str):
    assert verdict(machine, call("connect", machine)) == ALLOW
    assert verdict(machine, call("connect", machine), may_connect=False) == REFUSE


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", ["socket", "socketpair"])
def test_datagram_sockets_are_refused_with_connecting(machine: str, name: str):
    for kind, found in {1: ALLOW, 2: REFUSE, 3: REFUSE, 5: ALLOW, 0x80802: REFUSE}.items():
        assert verdict(machine, call(name, machine), 1, kind) == ALLOW
        assert verdict(machine, call(name, machine), 1, kind, may_connect=False) == found


@pytest.mark.parametrize("machine", MACHINES)
def test_limits_and_priorities_of_other_processes_are_refused(machine: str):
    for number in numbers(OF_A_PROCESS, machine).values():
        assert verdict(machine, number, 0, 7) == ALLOW
        assert verdict(machine, number, 1234, 7) == REFUSE
    priority = call("setpriority", machine)
    assert verdict(machine, priority, 0, 0, 19) == ALLOW
    for which, process in ((0, 1234), (1, 0), (2, 0), (2, 1000)):
        assert verdict(machine, priority, which, process, 19) == REFUSE


@given(flags=st.integers(0, 2**32 - 1), machine=st.sampled_from(MACHINES))
def test_no_flags_make_a_namespace(flags: int, machine: str):
    found = verdict(machine, call("clone", machine), flags)
    assert found == (REFUSE if flags & CLONE_NEW else ALLOW)


@pytest.mark.parametrize("machine", list(HEADERS))
def test_numbers_are_the_kernels(machine: str):
    header = Path(HEADERS[machine])
    if not header.exists():
        pytest.skip(f"{header} is not installed")
    known = dict(re.findall(r"#define __NR_(\w+) (\d+)", header.read_text()))
    tables = (REFUSED, CHECKED, OF_A_PROCESS)
    ours = {name: n for table in tables for name, n in numbers(table, machine).items()}
    assert {name: int(known[name]) for name in ours if name in known} == {
        name: number for name, number in ours.items() if name in known
    }


def test_another_processor_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("", "", "", "", "riscv64")))
    with pytest.raises(OSError, match="no filter of system calls for riscv64"):
        syscalls.refuse_calls(may_connect=True)


REAL = """
import ctypes, os, socket
from unmask.sandbox.guest.syscalls import refuse_calls
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
refuse_calls(may_connect=False)
socket.socketpair()
for attempt in (lambda: os.memfd_create("x"), socket.socket, lambda: os.unshare(0x10000000)):
    try:
        attempt()
    except (OSError, AttributeError):
        continue
    raise SystemExit(3)
"""


def test_this_kernel_takes_it():
    assert subprocess.run([sys.executable, "-c", REAL]).returncode == 0
