"""A program in a service that keeps no process: loaded, called as before, and called once more.

Sent along with the program (`sandbox.remote`); as in `guest.main`, everything here is the
program's once it runs, and no answer is believed.
"""

import builtins
import os
import resource
from collections.abc import Iterator, Mapping
from typing import Any

from unmask.sandbox.guest.main import Kept, answer_calls, behave_like_a_script, load


def main(job: Mapping[str, Any]) -> None:
    """Do one job: run a program to its end, or load it and answer its calls, the last one on standard output.

    Args:
        job: `program`; `cpu_s`, after which the kernel ends it; `questions`, lines as `answer_calls`
            reads them, or None where the program is run; `keeps_objects`, see `answer_calls`.
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
    os._exit(0)  # threads and exit handlers of the program have nothing to add
