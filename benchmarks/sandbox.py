"""Programs that the sandbox grades per second, and the processes, descriptors and folders that it leaves.

    python benchmarks/sandbox.py

Small programs, most of them right, some wrong, a few that crash. Processes, descriptors and folders
are counted before and after.
"""

import argparse
import os
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from setting import RESULTS, describe_machine, write_result

from unmask.configs.sandbox import SandboxConfig
from unmask.rewards.code import CodeGrader, CodeVerdict
from unmask.rewards.code_tests import SourceTest
from unmask.sandbox.isolation import choose_backend

BODIES = {
    "passed": "return x * x",
    "wrong": "return x + 1000",
    "crash": "import os; os._exit(0)",
}


def program(index: int) -> tuple[str, str]:
    """Return a program and its outcome: most are right, every hundredth dies."""
    outcome = "crash" if index % 100 == 99 else "wrong" if index % 4 == 3 else "passed"
    return f"def f(x):\n    {BODIES[outcome]}\n# {index}", outcome


def traces() -> dict[str, int]:
    """Count child processes, open descriptors and folders of programs, which a leak would increase."""
    parents = [
        (path / "stat").read_text().rpartition(")")[2].split()[1]
        for path in Path("/proc").glob("[0-9]*")
        if (path / "stat").exists()
    ]
    return {
        "children": parents.count(str(os.getpid())),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "folders": len(list(Path("/tmp").glob("unmask-program-*"))),
    }


def measure(num_programs: int, workers: int) -> dict[str, Any]:
    """Grade programs and return the figures."""
    config = SandboxConfig(workers=workers)
    test = SourceTest("assert [f(x) for x in (2, 7)] == [4, 49]", ("f",))
    programs = [program(index) for index in range(num_programs)]
    with closing(CodeGrader(config)) as grader:
        grader.grade([(programs[0][0], [test])])
        grader.close()
        before = traces()
        start = time.perf_counter()
        verdicts = grader.grade([(source, [test]) for source, _ in programs])
        seconds = time.perf_counter() - start
    wrong = [
        v for v, (_, outcome) in zip(verdicts, programs, strict=True) if not agrees(v, outcome)
    ]
    return {
        "machine": describe_machine(),
        "load_at_the_end": os.getloadavg()[0],
        "backend": choose_backend("best"),
        "workers": workers,
        "programs": num_programs,
        "seconds": round(seconds, 1),
        "programs_per_s": round(num_programs / seconds, 1),
        "verdicts_that_are_not_as_expected": len(wrong),
        "before": before,
        "after": traces(),
    }


def agrees(verdict: CodeVerdict, outcome: str) -> bool:
    """Return whether the outcome of the one test is the expected one."""
    return verdict.outcomes == (outcome,)


def main() -> None:
    """Measure, print and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS / "sandbox.json")
    arguments = parser.parse_args()
    result = measure(arguments.programs, arguments.workers)
    for name, value in result.items():
        print(f"{name:>34}  {value}")
    write_result(arguments.out, result)


if __name__ == "__main__":
    main()
