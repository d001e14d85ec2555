"""Grade right and wrong answers to every problem of GSM8K in a directory.

    python benchmarks/graders.py --data DIRECTORY

The gold answer, and the gold answer plus one, are written in the forms that models use: in a box, with
thousands separators, with a dollar sign, as a decimal, with a power of ten, in a sentence, and in bold. Every grade
comes from the worker processes that training uses. One wrong grade fails the run.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.table import Table
from setting import RESULTS, describe_machine, write_result

from unmask.configs.task import DatasetTaskConfig, Extraction
from unmask.sandbox.verifier_pool import VerifierPool
from unmask.tasks.build import build_task
from unmask.tasks.grader import FACTORY

Form = Callable[[Decimal], str]
FORMS: dict[str, tuple[Extraction, Form]] = {
    "box": ("boxed", lambda value: f"So it is $\\boxed{{{value}}}$."),
    "thousands separators": ("boxed", lambda value: f"So it is $\\boxed{{{value:,}}}$."),
    "dollar sign": ("boxed", lambda value: f"She pays $\\boxed{{\\${value}}}$."),
    "decimal": ("boxed", lambda value: f"So it is \\boxed{{{value:.2f}}}"),
    # Without a plus: `1.8e+1` may be 1.8 e + 1, and is not read as a power of ten.
    "power of ten": (
        "boxed",
        lambda value: f"So it is $\\boxed{{{format(value, 'e').replace('+', '')}}}$.",
    ),
    "sentence": ("stated", lambda value: f"The answer is {value}."),
    "sentence, dollars": ("stated", lambda value: f"The answer is ${value:,}."),
    "sentence, bold": ("stated", lambda value: f"Final Answer: **{value:,}**"),
}


def main() -> int:
    """Judge every form of every answer; print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("UNMASK_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default), help="where GSM8K is")
    parser.add_argument("--smoke", action="store_true", help="a few problems; nothing is written")
    parser.add_argument("--out", type=Path, help="where to write the JSON")
    arguments = parser.parse_args()
    golds = gold_answers(arguments.data)
    golds = golds[:60] if arguments.smoke else golds
    pools = {e: VerifierPool(FACTORY, {"extraction": e}) for e in get_args(Extraction)}
    forms = {name: judge_form(pools[e], golds, form) for name, (e, form) in FORMS.items()}
    show(forms)
    result = {"machine": describe_machine(), "math": {"problems": len(golds), "forms": forms}}
    out = arguments.out or (None if arguments.smoke else RESULTS / "graders.json")
    write_result(out, result)
    return int(any(form["gold_right"] < 1 or form["plus_one_right"] > 0 for form in forms.values()))


def gold_answers(folder: Path) -> list[str]:
    """Return the answers of all problems, of every split."""
    task = build_task(DatasetTaskConfig(name="gsm8k", path=folder))
    return [
        prompt.reference["answer"]
        for split in ("train", "validation", "test")
        for prompt in task.prompts(split)
    ]


def judge_form(pool: VerifierPool, golds: list[str], form: Form) -> dict[str, Any]:
    """Judge one form of the gold answers, and of the gold answers plus one."""
    values = [Decimal(gold.replace(",", "")) for gold in golds]
    right = [{"response": form(v), "gold": g} for v, g in zip(values, golds, strict=True)]
    wrong = [{"response": form(v + 1), "gold": g} for v, g in zip(values, golds, strict=True)]
    pool.grade(right[:1])  # starts the worker, where it is the first
    start = time.perf_counter()
    verdicts = pool.grade(right + wrong)
    seconds = time.perf_counter() - start
    half = len(golds)
    return {
        "gold_right": sum(v.score for v in verdicts[:half]) / half,
        "plus_one_right": sum(v.score for v in verdicts[half:]) / half,
        "unjudged": sum(v.error is not None for v in verdicts),
        "items_per_s": round(2 * half / seconds, 1),
    }


def show(forms: dict[str, dict[str, Any]]) -> None:
    """Print one row per form."""
    table = Table("form", "gold is right", "gold + 1 is right", "unjudged", "items/s")
    for name, form in forms.items():
        shares = (f"{form[key]:.2%}" for key in ("gold_right", "plus_one_right"))
        table.add_row(name, *shares, str(form["unjudged"]), str(form["items_per_s"]))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
