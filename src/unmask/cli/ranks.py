"""Several processes for one run: `--nproc` starts them, and each begins here as those of torchrun do."""

import logging
import os
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from signal import Signals
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

from typer import Exit, Option, echo

from unmask.cli.options import load, resume_command

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

    from unmask.configs.dpo import DPOConfig
    from unmask.configs.eval import EvalConfig
    from unmask.configs.rl import RLConfig
    from unmask.configs.sft import SFTConfig
    from unmask.distributed.start import Config
    from unmask.distributed.world import World

    R = TypeVar("R", SFTConfig, DPOConfig, RLConfig, EvalConfig)

# For the last save after a signal; it is also the wait for ranks on GPUs that wait for a killed one.
LONGEST_END_S = 600

NumProcesses = Annotated[
    int | None,
    Option(
        "--nproc",
        min=1,
        help="Processes on this machine, one per GPU; torchrun starts them on several machines.",
    ),
]


def begin(
    cls: "type[R]",
    words: Sequence[str],
    show_prompt: bool,
    resume: bool,
    num_processes: int | None = None,
) -> "R":
    """Load the configuration of a run and check that it may start.

    Instead of a return: print the first prompt and exit; or run `num_processes` and exit as they do.
    """
    from unmask.distributed.environment import place
    from unmask.runs.directory import check_run

    if place().size > 1:  # the ranks check the run directory together
        with agreed_start():
            return load(cls, words)[0]
    config, _ = load(cls, words)
    if show_prompt:
        from unmask.cli.first_prompt import first_prompt

        echo(first_prompt(config))
        raise Exit
    check_run(config, resume)  # before torch is loaded, which takes seconds
    start_processes(num_processes, config.distributed.timeout_minutes)
    return config


@contextmanager
def agreed_start() -> Generator[None, None, None]:
    """End all processes of a command for a mistake that one of them finds before the ranks meet."""
    from unmask.distributed.environment import place

    # A process that ends makes torch's store warn in all others.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        yield
    except (ValueError, OSError) as error:
        if place().size == 1:
            raise
        from unmask.distributed.start import refuse

        refuse(error)


@contextmanager
def opened(config: "Config", kept: str) -> "Generator[World, None, None]":
    """Open the ranks of a command that trains nothing, and handle signals.

    Args:
        config: of the command.
        kept: the end of the sentence that is printed after a signal.
    """
    from unmask.distributed.parts import stoppable
    from unmask.distributed.start import open_world
    from unmask.runs.signals import Stopped

    try:
        with open_world(config) as world, stoppable(world):
            yield world
    except Stopped as stopped:
        sys.stderr.write(f"stopped; {kept}\n")
        raise Exit(128 + stopped.signal_number) from None


def start_processes(num_processes: int | None, timeout_minutes: float) -> None:
    """Run this command in so many processes and exit as they do; return in one process, and in each of them."""
    from unmask.distributed.environment import place

    if num_processes is not None and num_processes > 1 and place().size == 1:
        launch(num_processes, timeout_minutes)


def launch(num_processes: int, timeout_minutes: float) -> NoReturn:
    """Run this command in several processes by torchrun's launcher, and exit as they do.

    Args:
        num_processes: on this machine.
        timeout_minutes: longest wait for a process that was asked to stop, up to `LONGEST_END_S`.
    """
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.disable()  # the launcher's tables of failures would bury the sentence that rank 0 prints
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # else the launcher sets it, with a warning
    seconds = max(1, round(min(60 * timeout_minutes, LONGEST_END_S)))
    # `--standalone` would listen on all interfaces, and unpickle what others write there.
    words = ["--rdzv-backend=c10d", "--rdzv-conf=store_type=file", "--local-addr=127.0.0.1"]
    words += [f"--nproc-per-node={num_processes}", f"--shutdown-timeout={seconds}", "-m"]
    try:
        with TemporaryDirectory(prefix="unmask-ranks-") as place:
            meeting = f"--rdzv-endpoint={place}/store"
            # After `--` no word is taken for an option of the launcher.
            run.run(run.parse_args([meeting, *words, "--", "unmask", *sys.argv[1:]]))
    except ChildFailedError as error:
        sys.exit(exit_code(error.failures))
    except SignalException as stopped:
        sys.exit(128 + stopped.sigval)
    sys.exit(0)


def how_to_resume() -> str:
    """Return how to go on with the run of this process."""
    from unmask.distributed.environment import place

    if place().size > 1 and not any(w.startswith("--nproc") for w in sys.argv):
        return "resume with the same torchrun command and --resume"
    return f"resume with: {resume_command()}"


def exit_code(failures: "Mapping[int, ProcessFailure]") -> int:
    """Return the exit code of a run from those of its processes, and report a process that was killed.

    Args:
        failures: by rank; the launcher sends SIGTERM to the others once one has failed.
    """
    codes = {rank: failure.exitcode for rank, failure in sorted(failures.items())}
    for rank, code in codes.items():
        if code < 0 and code != -Signals.SIGTERM:
            name = Signals(-code).name
            sys.stderr.write(
                f"error: rank {rank} (process {failures[rank].pid}) was ended by {name}; "
                f"{how_to_resume()}\n"
            )
            return 128 - code
    own = [code for code in codes.values() if code > 0]
    return min(
        own, default=128 + Signals.SIGTERM
    )  # 1 is a bug, which matters more than what followed
