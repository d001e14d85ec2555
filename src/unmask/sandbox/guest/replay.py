"""A program in a service that keeps no process: it is loaded, earlier calls are repeated, one is added.

Sent with the program (`sandbox.remote`). As in `guest.main`, the program controls everything here once it
runs, and the answers are not trusted.
"""

import builtins
import os
import resource
from collections.abc import Iterator, Mapping
from typing import Any

from unmask.sandbox.guest.main import Kept, answer_calls, behave_like_a_script, load


def main(job: Mapping[str, Any]) -> None:
    """Run a program to its end, or load it and call it, with the last answer on standard output.

    Args:
        job: `program`; `cpu_s`, after which the kernel ends it; `questions`, lines as `answer_calls`
            reads them, or None to run the program; `keeps_objects`, see `answer_calls`.
    """
    resource.setrlimit(resource.RLIMIT_CPU, (job["cpu_s"], job["cpu_s"] + 1))
    behave_like_a_script()
    if job["questions"] is None:
        load(job["program"], "__main__", builtins)
        return
    answers, channel = os.dup(1), os.open(os.devnull, os.O_WRONLY)

    def questions() -> Iterator[bytes]:
        *before, last = (line.encode() for line in job["questions"])
        yield from before
        os.dup2(answers, channel)
        yield last

    kept = Kept() if job["keeps_objects"] else None
    answer_calls(job["program"], questions(), channel, kept)
    os._exit(0)  # without threads and exit handlers of the program
