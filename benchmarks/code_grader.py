"""HumanEval's own solutions, broken ones and ones that exit, under full processor load.

    python benchmarks/code_grader.py --data DIRECTORY

All 164 problems run four ways: the canonical solution must pass, and `return None`, the canonical
solution with an object that equals everything for every result, and `raise SystemExit` must fail.
As many busy processes as there are cores run at the same time.
"""

import argparse
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from setting import RESULTS, describe_machine, write_result

from unmask.configs.task import DatasetTaskConfig
from unmask.tasks.build import build_task
from unmask.types import Prompt

BUSY = "while True: pass"
YES = """
class Yes:
    __eq__ = __lt__ = __gt__ = __le__ = __ge__ = lambda *_: True

"""
WAYS = ("canonical", "return None", "another object", "raise SystemExit")


def response(prompt: Prompt, way: str) -> str:
    """Return a whole program for a problem."""
    stub, name = prompt.reference["stub"], prompt.reference["names"][0]
    canonical = str(prompt.reference["demonstration"])
    if way == "canonical":
        return canonical
    if way == "another object":
        return f"{canonical.removesuffix('```')}{YES}def {name}(*args): return Yes()\n```"
    return f"```python\n{stub}    {way}\n```"


def measure(path: Path, num_busy: int) -> dict[str, Any]:
    """Grade every problem every way, and return the figures."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(num_busy)]
    result: dict[str, Any] = {"machine": describe_machine(), "busy_processes": num_busy}
    try:
        with closing(build_task(DatasetTaskConfig(name="humaneval", path=path))) as task:
            prompts = task.prompts("test")
            for way in WAYS:
                start = time.perf_counter()
                scores = task.grade([(prompt, response(prompt, way)) for prompt in prompts])
                result[way] = {
                    "problems": len(prompts),
                    "passed": int(sum(score.reward for score in scores)),
                    "timeouts": int(sum(score.parts["code_timeout"] for score in scores)),
                    "crashes": int(sum(score.parts["code_crash"] for score in scores)),
                    "seconds": round(time.perf_counter() - start, 1),
                }
    finally:
        for process in busy:
            process.kill()
            process.wait()
    return result


def main() -> None:
    """Measure, print and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, help="HumanEval.jsonl.gz")
    parser.add_argument("--busy", type=int, default=2, help="busy processes beside it")
    parser.add_argument("--out", type=Path, default=RESULTS / "code_grader.json")
    arguments = parser.parse_args()
    result = measure(arguments.path, arguments.busy)
    for name, value in result.items():
        print(f"{name:>16}  {value}")
    write_result(arguments.out, result)


if __name__ == "__main__":
    main()
