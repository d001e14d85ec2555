"""Processes of Python that begin with torch and `unmask` already imported.

Importing them takes two to four seconds of processor time, in every `python -m unmask` again. The server
process of `multiprocessing` imports them once per test process, and forks. A forked process has its own memory,
working directory, environment, exit code and signals, as one that starts from nothing. A program (`-c`) imports
`unmask` anew, since it may extend the package's folders first.

Tests of the start itself keep to `subprocess`: tests/architecture/test_startup.py and test_readme.py.
"""

import atexit
import gc
import multiprocessing
import os
import resource
import runpy
import signal
import sys
import tempfile
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

PRELOADED = [
    *("torch._dynamo", "transformers.models.qwen2.tokenization_qwen2", "pytest"),
    *("transformers.utils.chat_template_utils", "httpx2"),
    *("unmask.acceptance.verify", "unmask.checkpoints.convert", "unmask.checkpoints.inspect"),
    *("unmask.cli.main", "unmask.evaluation.grading", "unmask.rewards.math", "unmask.runs.print"),
    *("unmask.trainers.optimizers.adamw", "unmask.trainers.rl", "unmask.trainers.sft"),
]
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(PRELOADED)


class ForkedPython:
    """A running `python WORDS`, with the methods of `subprocess.Popen` that tests call."""

    def __init__(
        self,
        words: Sequence[object],
        cwd: Path | str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start it in the folder `cwd` with the environment `env` and the file size limit of this process."""
        self.words = list(map(str, words))
        self._place = tempfile.TemporaryDirectory(prefix="forked-python-")
        self._files = [Path(self._place.name) / name for name in ("stdout", "stderr")]
        settings = (str(cwd or Path.cwd()), dict(os.environ if env is None else env))
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        self._process = context.Process(
            target=_become, args=(self.words, *settings, limit, list(map(str, self._files)))
        )
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """The exit code, -N after signal N, None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            assert self._process.pid is not None
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; return stdout and stderr."""
        self._process.join(timeout)
        if self.returncode is None:
            self.kill()
            self._process.join()
            raise TimeoutExpired(self.words, timeout or 0)
        out, error = (file.read_text() if file.exists() else "" for file in self._files)
        self._place.cleanup()
        return out, error


def run_python(
    words: Sequence[object],
    cwd: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> CompletedProcess[str]:
    """Run `python WORDS` to its end, as `subprocess.run(..., capture_output=True, text=True)` does."""
    process = ForkedPython(words, cwd, env)
    out, error = process.communicate(timeout)
    assert process.returncode is not None
    return CompletedProcess(process.words, process.returncode, out, error)


def spare_time() -> None:
    """Skip in this process what costs time and shows in no test.

    Collections of garbage leave out what was imported before, which stays to the end. Files are not forced to the
    disk, which takes 10 ms each: they outlive a process that is killed, and no test turns the machine off. Processes
    that tests start by `subprocess` do force them.
    """
    gc.freeze()
    os.fsync = lambda fd: None


def _become(
    words: list[str], cwd: str, env: dict[str, str], limit: tuple[int, int], files: list[str]
) -> None:
    """Do in the forked process what `python WORDS` does: `-m MODULE`, `-c PROGRAM` or a file."""
    spare_time()
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    multiprocessing.set_start_method(None, force=True)
    first = str(Path(words[0]).resolve().parent) if words[0].endswith(".py") else cwd
    sys.path[:0] = [first, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    try:
        if words[0] == "-c":
            for name in [name for name in sys.modules if name.partition(".")[0] == "unmask"]:
                del sys.modules[name]
        _execute(*words)
    except Exception:
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
    finally:
        atexit._run_exitfuncs()


def _execute(first: str, *rest: str) -> None:
    """Execute a module, a program or a file as `__main__`."""
    match first:
        case "-m":
            sys.argv = list(rest)
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        case "-c":
            sys.argv = ["-c", *rest[1:]]
            main = sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(rest[0], "<string>", "exec"), main.__dict__)
        case _:
            sys.argv = [first, *rest]
            runpy.run_path(first, run_name="__main__")
