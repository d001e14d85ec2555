"""The process that runs parts one after another: CUDA starts once, and compiled kernels are kept.

Commands come as lines on its standard input, replies go as lines of JSON to its standard output. Both are
moved aside before a part runs, whose own output goes to the log, as does that of the programs it starts.

A part starts with no memory of the one before: tensors, statistics of memory, gradient mode, number formats,
environment, working directory and random state. Compiled kernels stay, up to a number at which torch would
stop compiling: it keeps eight shapes of a function and runs the ninth without compiling.
"""

import faulthandler
import gc
import importlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import torch
from packaging.version import Version

from tools.gpu.part import Outcome, Part, Setting
from tools.gpu.results import plain
from unmask.sandbox.guest.namespaces import die_with_parent

MAX_GRAPHS = 6  # compiled since the caches were last emptied
MAX_LEFT_BYTES = 2**30  # on the device after a part: workspaces of libraries are far smaller


def main() -> None:
    """Describe machine and parts, then run the parts that are named."""
    die_with_parent()  # whose process group this is not part of
    commands, replies = take_streams()
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)  # the parent asks where a part stands that takes too long
    package, device, size, *names = sys.argv[1:]
    if device == "cuda" and not torch.cuda.is_available():
        send(replies, {"error": "--device cuda: torch finds no CUDA device"})
        return
    found = {name: load(package, name) for name in names}
    send(
        replies,
        {
            "machine": describe_machine(device),
            "parts": [describe(name, part) for name, part in found.items()],
        },
    )
    for line in commands:
        name, _, folder = line.rstrip("\n").partition(" ")
        reply = run_part(found[name], Setting(torch.device(device), size == "tiny", Path(folder)))
        send(replies, {**reply, "is_usable": is_usable()})


def take_streams() -> tuple[TextIO, TextIO]:
    """Return the streams of commands and replies; parts get an empty input, and the log as output."""
    commands, replies = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return commands, replies


def send(replies: TextIO, value: Mapping[str, Any]) -> None:
    """Send one reply."""
    print(json.dumps(plain(value)), file=replies, flush=True)


def load(package: str, name: str) -> Part | str:
    """Return a part, or the traceback of its import."""
    try:
        return importlib.import_module(f"{package}.{name}").PART
    except Exception:
        return traceback.format_exc()


def describe(name: str, part: Part | str) -> dict[str, Any]:
    """Return what the parent needs of a part, `missing` included: why it cannot run here, or nothing."""
    if isinstance(part, str):
        own = {"title": name, "group": "correctness", "limit_s": 1.0, "is_default": True}
        return {"name": name, **own, "missing": "", "traceback": part}
    here = Version(Version(torch.__version__).public)
    missing = f"torch {here.major}.{here.minor}" if here < Version(part.needs_torch) else ""
    fields = {key: getattr(part, key) for key in ("title", "group", "limit_s", "is_default")}
    return {"name": name, **fields, "missing": missing, "traceback": ""}


def run_part(part: Part | str, setting: Setting) -> dict[str, Any]:
    """Run a part and return its outcome, or its traceback; its files are removed."""
    if isinstance(part, str):
        return {"traceback": part, "seconds": 0.0}
    start = time.perf_counter()
    try:
        with restored_state():
            found = part.run(setting)
        if not isinstance(found, Outcome):
            raise TypeError(f"a part returns an Outcome, not {type(found).__name__}")
        reply = {"summary": found.summary, "passed": found.passed, "figures": found.figures}
    except Exception:
        reply = {"traceback": traceback.format_exc()}
    finally:
        shutil.rmtree(setting.folder, ignore_errors=True)
    return {**reply, "seconds": round(time.perf_counter() - start, 2)}


@contextmanager
def restored_state() -> Iterator[None]:
    """Seed torch; afterwards set gradient mode, formats, threads, environment and directory back."""
    environment, directory, threads = dict(os.environ), Path.cwd(), torch.get_num_threads()
    torch.manual_seed(0)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(directory)
        torch.set_num_threads(threads)
        torch.set_grad_enabled(True)
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")
        torch.use_deterministic_algorithms(False)


def collect() -> None:
    """Free what a part left: tensors, and compiled kernels where they are many."""
    counters = sys.modules.get("torch._dynamo.utils")
    if counters is not None and counters.counters["stats"]["unique_graphs"] > MAX_GRAPHS:
        torch._dynamo.reset()
        counters.counters.clear()
    gc.collect()


def is_usable() -> bool:
    """Return whether the next part may run here: an illegal access breaks a device, a reference keeps its memory."""
    collect()
    if not torch.cuda.is_initialized():
        return True
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() < MAX_LEFT_BYTES
    except Exception:
        return False


def describe_machine(device: str) -> dict[str, str]:
    """Return card, driver and versions."""
    found = {
        "card": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "driver": driver_version() if device == "cuda" else "none",
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "python": platform.python_version(),
    }
    try:
        return {**found, "triton": importlib.import_module("triton").__version__}
    except ImportError:
        return {**found, "triton": "none"}


def driver_version() -> str:
    """Return the driver's version, as `nvidia-smi` prints it."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        printed = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return printed.partition("\n")[0].strip() or "unknown"


if __name__ == "__main__":
    main()
