"""A permanent filter of system calls for a process and all processes that it starts.

A limit on address space does not count memory that the kernel keeps elsewhere: memory files, shared
memory, socket and pipe buffers, a tmpfs in a new namespace. Each is refused or limited here, together
with access to other processes (tracing, keyrings, their limits and priorities) and calls that programs
never need and that kernels have had vulnerabilities in. The filter refuses listed calls and all newer
ones; a list of allowed calls would have to follow every C library.

It is written here, and not by `pyseccomp` for `bwrap --seccomp`, because it must hold with every
backend, also without bubblewrap, and because it may begin only after the interpreter has started and the
standard input, a memory file, exists. A filter is an array of 8-byte instructions: load a word, compare,
jump, return. `clone3` passes its flags by pointer, which a filter cannot follow: it is reported as
missing, and C libraries then use `clone`. New namespaces are refused by the same flags, so bubblewrap
needs no `--disable-userns`.

`SIGCHLD` must keep its default: if it were ignored, the processor time of ended children would not be
counted.
"""

import ctypes
import errno
import os
import signal
import struct
from collections.abc import Iterator, Sequence

# Name, number on x86_64, number on aarch64; newer calls have one number everywhere.
REFUSED = """
    setxattr 188 5  lsetxattr 189 6  fsetxattr 190 7
    memfd_create 319 279  memfd_secret 447 447  userfaultfd 323 282
    shmget 29 194  shmctl 31 195  shmat 30 196  shmdt 67 197
    semget 64 190  semctl 66 191  semop 65 193  semtimedop 220 192
    msgget 68 186  msgctl 71 187  msgsnd 69 189  msgrcv 70 188  mq_open 240 180  mq_unlink 241 181
    splice 275 76  vmsplice 278 75  tee 276 77
    inotify_init1 294 26  fanotify_init 300 262
    keyctl 250 219  add_key 248 217  request_key 249 218
    ptrace 101 117  process_vm_readv 310 270  process_vm_writev 311 271  kcmp 312 272
    pidfd_getfd 438 438  process_madvise 440 440  move_pages 279 239  migrate_pages 256 238
    bpf 321 280  perf_event_open 298 241
    io_uring_setup 425 425  io_uring_enter 426 426  io_uring_register 427 427
    landlock_create_ruleset 444 444  landlock_add_rule 445 445  landlock_restrict_self 446 446
    ioprio_set 251 30
    unshare 272 97  setns 308 268  chroot 161 51  pivot_root 155 41  mount 165 40  umount2 166 39
    open_tree 428 428  move_mount 429 429  fsopen 430 430  fsconfig 431 431  fsmount 432 432
    fspick 433 433  mount_setattr 442 442  name_to_handle_at 303 264  open_by_handle_at 304 265
    quotactl 179 60  quotactl_fd 443 443  acct 163 89  swapon 167 224  swapoff 168 225
    kexec_load 246 104  kexec_file_load 320 294  reboot 169 142  syslog 103 116
    init_module 175 105  finit_module 313 273  delete_module 176 106
    settimeofday 164 170  clock_settime 227 112  clock_adjtime 305 266  adjtimex 159 171
    sethostname 170 161  setdomainname 171 162
"""
# Calls of x86_64 only: ports, segments, and the older form of a call above.
REFUSED_X86_64 = (172, 173, 154, 253)
# As above; these are refused for some values of an argument.
CHECKED = """
    clone 56 220  clone3 435 435  socket 41 198  socketpair 53 199  setsockopt 54 208
    listen 50 201  connect 42 203  fcntl 72 25  rt_sigaction 13 134  setpriority 141 140
"""
# The first argument of these is a process; 0 is the calling one.
OF_A_PROCESS = """
    prlimit64 302 261  sched_setparam 142 118  sched_setscheduler 144 119  sched_setaffinity 203 122
    sched_setattr 314 274
"""
FIRST_UNKNOWN, X32 = 463, 0x40000000
CLONE_NEW = 0x7E020000  # cgroup, UTS, IPC, user, process and network namespaces; mounts
AF_UNIX, F_SETPIPE_SZ, MAX_BACKLOG = 1, 1031, 128
# As a bit; of Unix sockets only datagram ones and raw ones, which become those, have it.
SOCK_DGRAM = 2
BUFFER_SIZES = (7, 8, 32, 33)  # SO_SNDBUF, SO_RCVBUF, and their FORCE variants

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
LOAD, EQUAL, AT_LEAST, ABOVE, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x25, 0x45, 0x06
KILL, ALLOW, ERROR = 0x80000000, 0x7FFF0000, 0x00050000
INSTRUCTION = struct.Struct("=HBBI")  # code, jumps if true and if false, value
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in `struct seccomp_data`
PR_SET_SECCOMP, MODE_FILTER = 22, 2
libc = ctypes.CDLL(None, use_errno=True)


def refuse_calls(may_connect: bool) -> None:
    """Install the filter in this process, which must have set "no new privileges" before.

    Args:
        may_connect: whether it may connect Unix sockets, or have datagram ones; with the machine's own
            file system they would reach the machine's servers.

    Raises:
        OSError: the kernel accepts no filter, or there is none for this processor.
    """
    machine = os.uname().machine
    if machine not in AUDIT_ARCH:
        raise OSError(errno.ENOSYS, f"there is no filter of system calls for {machine}")
    code = b"".join(filter_of(machine, may_connect))
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HP", len(code) // INSTRUCTION.size, ctypes.addressof(buffer))
    if libc.prctl(PR_SET_SECCOMP, MODE_FILTER, program, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "this kernel accepts no filter of system calls")


def filter_of(machine: str, may_connect: bool) -> Iterator[bytes]:
    """Yield the instructions of the filter for `x86_64` or `aarch64`."""
    calls = numbers(CHECKED, machine)
    yield _op(LOAD, ARCHITECTURE)
    yield from _if(EQUAL, AUDIT_ARCH[machine], otherwise=KILL)
    yield _op(LOAD, NUMBER)
    yield from _if(AT_LEAST, X32, then=KILL)
    yield from _if(AT_LEAST, FIRST_UNKNOWN, then=ERROR | errno.ENOSYS)
    yield from _if(EQUAL, calls["clone3"], then=ERROR | errno.ENOSYS)
    refused = [*numbers(REFUSED, machine).values()]
    refused += REFUSED_X86_64 if machine == "x86_64" else ()
    refused += [] if may_connect else [calls["connect"]]
    for number in refused:
        yield from _if(EQUAL, number, then=ERROR | errno.EPERM)
    refuse = ERROR | errno.EPERM
    yield from _when(calls["clone"], 0, [*_if(ANY_BIT, CLONE_NEW, then=refuse)])
    for name in ("socket", "socketpair"):
        family = [*_if(EQUAL, AF_UNIX, otherwise=ERROR | errno.EAFNOSUPPORT)]
        if not may_connect:
            family += [_op(LOAD, ARGUMENTS + 8), *_if(ANY_BIT, SOCK_DGRAM, then=refuse)]
        yield from _when(calls[name], 0, family)
    sizes = [part for size in BUFFER_SIZES for part in _if(EQUAL, size, then=refuse)]
    yield from _when(calls["setsockopt"], 2, sizes)
    yield from _when(calls["listen"], 1, [*_if(ABOVE, MAX_BACKLOG, then=refuse)])
    yield from _when(calls["fcntl"], 1, [*_if(EQUAL, F_SETPIPE_SZ, then=refuse)])
    for number in numbers(OF_A_PROCESS, machine).values():
        yield from _when(number, 0, [*_if(EQUAL, 0, otherwise=refuse)])
    own = [*_if(EQUAL, 0, otherwise=refuse), _op(LOAD, ARGUMENTS + 8)]
    yield from _when(calls["setpriority"], 0, [*own, *_if(EQUAL, 0, otherwise=refuse)])
    # A call that only reads the handler has a null pointer as second argument, in both halves.
    sets = [*_if(EQUAL, signal.SIGCHLD, otherwise=ALLOW)]
    for half in (0, 4):
        sets += [_op(LOAD, ARGUMENTS + 8 + half), *_if(EQUAL, 0, otherwise=refuse)]
    yield from _when(calls["rt_sigaction"], 0, sets)
    yield _op(RETURN, ALLOW)


def numbers(table: str, machine: str) -> dict[str, int]:
    """Return the numbers of the calls of a table."""
    words = table.split()
    # Three words a call: its name, its number on x86_64, its number on aarch64.
    column = words[1::3] if machine == "x86_64" else words[2::3]
    return dict(zip(words[::3], map(int, column), strict=True))


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return INSTRUCTION.pack(code, if_true, if_false, value)


def _if(test: int, value: int, then: int | None = None, otherwise: int = ALLOW) -> Iterator[bytes]:
    """Yield a test of the loaded word that ends the filter with a result, or continues."""
    yield _op(test, value, *((0, 1) if then is not None else (1, 0)))
    yield _op(RETURN, otherwise if then is None else then)


def _when(number: int, argument: int, body: Sequence[bytes]) -> Iterator[bytes]:
    """Yield tests of an argument of one call, which is allowed unless one of them refuses it."""
    yield _op(EQUAL, number, 0, len(body) + 2)  # else jump over the body, the load and the return
    yield _op(LOAD, ARGUMENTS + 8 * argument)
    yield from body
    yield _op(RETURN, ALLOW)
