"""The command line of `tools/gpu_check`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tools.gpu import harness, page, wheels
from tools.gpu.results import ROOT

DESCRIPTION = """\
Check that unmask is right on a GPU, and measure how fast it is there.

Each part (tools/gpu/parts) checks or measures one thing within its own time limit. Its result is written as soon
as it ends, to one JSON file per part and to one of all parts (gpu_check.json). Run again, the command goes on where
it stopped: a part that passed or was measured is kept as long as the code files are the same; one that failed, took too
long or found no time runs again. Correctness comes first, then speed, learning and the comparison with
published code; parts of --all come after the others.
"""
EXAMPLES = """\
examples:
  tools/gpu_check                            five minutes at most on an H100 or H200; results to benchmarks/results/gpu
  tools/gpu_check --all                      nine minutes at most; run again for the parts that found no time
  tools/gpu_check --device cpu --tiny --all  rehearsal: the same code in small; results to runs/gpu_check-cpu-tiny
  tools/gpu_check --only golden_logits       one part; with --again although it has passed
  tools/gpu_check --list                     names, limits and titles of the parts
  tools/gpu_check --wheels .whl              packages for a machine without a registry, and the commands to use there
  tools/gpu_check --table                    write the committed results into docs/gpu.md, print the table of the README

exit code: 0; 1 if a part failed; 2 if nothing could be run.
"""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = build_parser()
    options = parser.parse_args(words)
    console = Console() if sys.stdout.isatty() else Console(width=130, color_system=None)
    try:
        if options.wheels is not None:
            return wheels.gather(options.wheels, options.python, console)
        if options.table:
            return page.write(console)
        if options.list:
            harness.show_list(harness.list_parts(), console)
            return 0
        return run(options, console)
    except (ValueError, harness.Ended, TimeoutError) as error:
        message = f"gpu_check: {error or 'the worker did not start in time'}"
        Console(stderr=True).print(message, markup=False, soft_wrap=True)
        return 2


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        "tools/gpu_check",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--device", choices=("cuda", "cpu"), default="cuda", help="cpu is for rehearsals")
    add("--tiny", action="store_true", help="toy sizes; the figures are no measurements")
    add("--all", action="store_true", help="also the parts that take long")
    add("--only", nargs="+", default=[], metavar="NAME", help="these parts")
    add("--again", action="store_true", help="run parts that are finished, too")
    add(
        "--budget",
        type=float,
        metavar="SECONDS",
        help="no part runs longer than this after the start; 300, with --all 540, on a CPU 3600",
    )
    add("--out", type=Path, metavar="DIR", help="folder of gpu_check.json and log.txt")
    add("--parts", type=Path, metavar="DIR", help="folder of one file per part; DIR/parts of --out")
    add("--commit", metavar="HASH", help="to note in results, where there is no repository")
    add("--list", action="store_true", help="list the parts, and run none")
    add(
        "--wheels",
        type=Path,
        metavar="DIR",
        help="gather packages for a machine without a registry",
    )
    add(
        "--python",
        default="python3.12",
        metavar="PATH",
        help="for --wheels: a Python 3.12, which builds what has no wheel",
    )
    add("--table", action="store_true", help="write the committed results into docs/gpu.md")
    return parser


def run(options: argparse.Namespace, console: Console) -> int:
    """Run the parts, show their results, and return the exit code."""
    is_cpu = options.device == "cpu"
    rehearsal = ROOT / "runs" / f"gpu_check-{options.device}{'-tiny' if options.tiny else ''}"
    is_measurement = not is_cpu and not options.tiny
    out = options.out or (page.RESULTS if is_measurement else rehearsal)
    plan = harness.Plan(
        device=options.device,
        is_tiny=options.tiny,
        is_all=options.all,
        only=options.only,
        out=out.resolve(),
        parts=(options.parts or out / "parts").resolve(),
        is_again=options.again,
        budget_s=options.budget or (3600 if is_cpu else 540 if options.all else 300),
        commit=options.commit,
    )
    results = harness.run_parts(plan, console)
    harness.show(results, console)
    return int(any(result.status == "failed" for result in results))
