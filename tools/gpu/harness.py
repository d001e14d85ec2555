"""Runs the parts in a worker process, within their time limits and a budget, and keeps their results.

A part that takes too long or ends the process costs itself only: the worker, with every process it started, is
killed and replaced, and the next part goes on.
"""

import importlib
import json
import os
import pkgutil
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tools.gpu.results import ROOT, Code, Result, Status, Store, describe_code

PARTS = "tools.gpu.parts"
GROUPS = ("correctness", "speed", "learning", "published")
# The most valuable of the parts that come after correctness.
FIRST = ("engine_4b", "update_1_7b", "quickstart")
START_LIMIT_S = 180.0  # importing torch and unmask from a cold disk
CPU_FACTOR = (
    10.0  # limits are for an H200; a CPU takes its toy sizes in seconds, shared with other work
)
SCRATCH_BYTES = 32 * 2**30
TAIL = 3000  # characters of output that are kept where a part failed
STYLES = {"passed": "green", "failed": "bold red", "measured": "cyan", "not run": "yellow"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run.

    Attributes:
        device: `cuda` or `cpu`.
        is_tiny: toy sizes.
        is_all: parts that are not run by default, too.
        only: names of parts; all, where empty.
        out: folder of the merged file and the log.
        parts: folder of one file per part.
        is_again: run finished parts, too.
        budget_s: no part runs longer than this after the start.
        commit: what to note where there is no repository.
        package: of the parts.
    """

    device: str
    is_tiny: bool
    is_all: bool
    only: Sequence[str]
    out: Path
    parts: Path
    is_again: bool
    budget_s: float
    commit: str | None = None
    package: str = PARTS


@dataclass(frozen=True, slots=True)
class Listed:
    """A part as the worker describes it: its own fields, and why it cannot run there."""

    name: str
    title: str
    group: str
    limit_s: float
    is_default: bool
    missing: str
    traceback: str


class Ended(Exception):
    """The worker ended, or was ended."""


class Worker:
    """The process that runs parts.

    Raises:
        Ended: it did not start.
    """

    def __init__(self, plan: Plan) -> None:
        names = chosen_names(plan)
        plan.out.mkdir(parents=True, exist_ok=True)
        self.log = plan.out / "log.txt"
        paths = [str(ROOT), str(ROOT / "src"), str(ROOT / "benchmarks")]
        paths += filter(None, [os.environ.get("PYTHONPATH")])
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        size = "tiny" if plan.is_tiny else "full"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tools.gpu.worker", plan.package, plan.device, size, *names],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                cwd=ROOT,
                start_new_session=True,
            )
        self._unread = b""
        self._log_start = 0
        self._scratch = Path(tempfile.mkdtemp(prefix="gpu_check-", dir=scratch(plan.device)))
        ready = self._receive(START_LIMIT_S)
        if "error" in ready:
            self.close()
            raise ValueError(ready["error"])
        self.machine: dict[str, str] = ready["machine"]
        self.listed = [Listed(**part) for part in ready["parts"]]

    def run(self, name: str, limit_s: float) -> dict[str, Any]:
        """Run a part and return its outcome.

        Raises:
            TimeoutError: it took longer than `limit_s`.
            Ended: the process ended.
        """
        self._log_start = self.log.stat().st_size
        assert self._process.stdin is not None
        folder = Path(tempfile.mkdtemp(dir=self._scratch))
        self._process.stdin.write(f"{name} {folder}\n".encode())
        self._process.stdin.flush()
        return self._receive(limit_s)

    def tail(self) -> str:
        """Return the end of what the current part printed."""
        with self.log.open("rb") as file:
            file.seek(max(self._log_start, self.log.stat().st_size - TAIL))
            return file.read().decode(errors="replace")

    def stop(self) -> None:
        """Print where the process stands to the log, then kill it and all that it started."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGUSR1)
            time.sleep(0.3)
        self.close()

    def close(self) -> None:
        """Kill the process and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self._scratch, ignore_errors=True)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()

    def _receive(self, limit_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        descriptor, end = self._process.stdout.fileno(), time.monotonic() + limit_s
        while b"\n" not in self._unread:
            left = end - time.monotonic()
            if left <= 0:
                self.stop()
                raise TimeoutError
            # A process that it started may hold the pipe open, so its end is looked for, too.
            if select.select([descriptor], [], [], min(left, 0.5))[0]:
                data = os.read(descriptor, 1 << 16)
                if not data:
                    raise self._ended()
                self._unread += data
            elif self._process.poll() is not None:
                raise self._ended()
        line, _, self._unread = self._unread.partition(b"\n")
        return json.loads(line)

    def _ended(self) -> Ended:
        self.close()
        code = self._process.returncode
        # The group was killed only after the pipe closed, so a process that still ran then has closed it itself.
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return Ended(f"the process ended: {how}")


def scratch(device: str) -> str | None:
    """Return where parts keep their files: in memory next to a GPU, where a checkpoint's disk time is no subject."""
    memory = Path("/dev/shm")
    has_room = memory.is_dir() and shutil.disk_usage(memory).free > SCRATCH_BYTES
    return str(memory) if device == "cuda" and has_room else None


def run_parts(plan: Plan, console: Console) -> list[Result]:
    """Run the chosen parts and return their results, old ones included where they are still valid.

    Raises:
        ValueError: no such part or device, or a folder with results of another kind.
    """
    end = time.monotonic() + plan.budget_s
    store = Store(plan.out, plan.parts, plan.device, plan.is_tiny)
    code = describe_code(plan.commit)
    session = Session(plan, store, code)
    session.end = end
    try:
        return [session.take(part, console) for part in chosen(session.worker.listed, plan)]
    finally:
        session.worker.close()


class Session:
    """Takes one part after another, with a worker that is replaced when it ends.

    Attributes:
        end: time on the monotonic clock after which no part runs.
    """

    def __init__(self, plan: Plan, store: Store, code: Code) -> None:
        self.worker = Worker(plan)
        self.end = time.monotonic() + plan.budget_s
        self._plan, self._store, self._code = plan, store, code
        self._needs_worker = False

    def take(self, part: Listed, console: Console) -> Result:
        """Return the result of a part: the old one, or that of running it now."""
        old = self._store.finished(part.name, self._code.source, self.worker.machine)
        if old is not None and not self._plan.is_again:
            console.print(line(old, "kept"), soft_wrap=True)
            return old
        with waiting(console, part):
            result = self._run(part)
        self._store.write(result)
        console.print(line(result), soft_wrap=True)
        return result

    def _run(self, part: Listed) -> Result:
        if part.traceback:
            return self._result(part, "failed", last_line(part.traceback), traceback=part.traceback)
        if part.missing:
            return self._result(part, "not run", part.missing)
        start = time.monotonic()
        try:
            if self._needs_worker and self.end > start:
                self.worker, self._needs_worker = Worker(self._plan), False
            left = self.end - time.monotonic()
            if left <= 0:
                return self._result(part, "not run", "no time left")
            limit = part.limit_s * (CPU_FACTOR if self._plan.device == "cpu" else 1.0)
            found = self.worker.run(part.name, min(limit, left))
        except (TimeoutError, Ended, BrokenPipeError) as error:
            self._needs_worker = True
            seconds = time.monotonic() - start
            if isinstance(error, TimeoutError) and time.monotonic() >= self.end:
                return self._result(part, "not run", f"no time left: stopped after {seconds:.0f} s")
            what = (
                f"stopped after {seconds:.0f} s" if isinstance(error, TimeoutError) else str(error)
            )
            return self._result(part, "failed", what, seconds, traceback=self.worker.tail())
        if not found.pop("is_usable"):
            self._needs_worker = True
            self.worker.close()
        return self._outcome(part, found)

    def _outcome(self, part: Listed, found: dict[str, Any]) -> Result:
        if "traceback" in found:
            trace = self.worker.tail() + "\n" + found["traceback"]
            summary = last_line(found["traceback"])
            return self._result(part, "failed", summary, found["seconds"], traceback=trace)
        passed = found["passed"]
        status: Status = "measured" if passed is None else "passed" if passed else "failed"
        return self._result(part, status, **found)

    def _result(
        self, part: Listed, status: Status, summary: str, seconds: float = 0.0, **more: Any
    ) -> Result:
        return Result(
            part.name,
            part.title,
            part.group,
            status,
            summary,
            round(seconds, 2),
            self._plan.device,
            self._plan.is_tiny,
            self._code,
            self.worker.machine,
            datetime.now(UTC).isoformat(timespec="seconds"),
            **{"passed": False if status == "failed" else None, **more},
        )


def chosen_names(plan: Plan) -> list[str]:
    """Return the names of the parts to load: those given, or all files of the package.

    Raises:
        ValueError: a name that no part has.
    """
    folder = importlib.import_module(plan.package).__path__
    names = [module.name for module in pkgutil.iter_modules(folder)]
    for name in plan.only:
        if name not in names:
            raise ValueError(f"--only {name}: no part has this name; {', '.join(names)}")
    return list(plan.only) or names


def chosen(listed: Sequence[Listed], plan: Plan) -> list[Listed]:
    """Return the parts to run, most valuable first."""
    takes_all = plan.is_all or bool(plan.only)
    return sorted((part for part in listed if part.is_default or takes_all), key=_order)


def _order(part: Listed) -> tuple[bool, bool, int, int, float, str]:
    """Order parts of a default run before others, correctness before `FIRST` before all groups, short ones first."""
    place = FIRST.index(part.name) if part.name in FIRST else len(FIRST)
    is_other = part.group != "correctness"
    group = GROUPS.index(part.group)
    return not part.is_default, is_other, place, group, part.limit_s, part.name


def list_parts(package: str = PARTS) -> list[Listed]:
    """Return all parts in the order in which they run; none is run."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place)
        plan = Plan("cpu", True, True, (), out, out, False, 0.0, package=package)
        worker = Worker(plan)
        worker.close()
    return chosen(worker.listed, plan)


def last_line(traceback: str) -> str:
    """Return the line of a traceback that names the error."""
    lines = [line for line in traceback.splitlines() if line and not line.startswith(" ")]
    return lines[-1][:300] if lines else "no message"


@contextmanager
def waiting(console: Console, part: Listed) -> Iterator[None]:
    """Show which part runs, on a terminal."""
    if not console.is_terminal:
        yield
        return
    with console.status(f"{part.name}: {part.title} (at most {part.limit_s:.0f} s)"):
        yield


def line(result: Result, note: str = "") -> Text:
    """Return the line of a part that ended."""
    text = Text(f"{result.status:8} {result.seconds:6.1f} s  ", STYLES[result.status])
    text.append(f"{result.name}: {result.summary}", "none")
    return text.append(f" ({note})" if note else "")


def show(results: Sequence[Result], console: Console) -> None:
    """Print the end of each failure's traceback, and the table."""
    for result in results:
        if result.status == "failed" and result.traceback:
            console.rule(result.name)
            console.print(
                "\n".join(result.traceback.strip().splitlines()[-8:])[-900:], markup=False
            )
    table = Table(title="gpu_check")
    for heading in ("part", "result", "seconds", "figures"):
        table.add_column(heading, justify="right" if heading == "seconds" else "left")
    for result in results:
        status = Text(result.status, STYLES[result.status])
        table.add_row(result.name, status, f"{result.seconds:.1f}", Text(result.summary))
    console.print(table)
    if results:
        machine = ", ".join(f"{key} {value}" for key, value in results[-1].machine.items())
        console.print(f"{machine}; commit {results[-1].code.commit}", markup=False)


def show_list(listed: Sequence[Listed], console: Console) -> None:
    """Print names, limits and titles of parts."""
    table = Table()
    for heading in ("part", "group", "run by", "limit", "title"):
        table.add_column(heading)
    for part in listed:
        run_by = "default" if part.is_default else "--all"
        title = last_line(part.traceback) if part.traceback else part.title
        table.add_row(part.name, part.group, run_by, f"{part.limit_s:.0f} s", Text(title))
    console.print(table)
