"""The commands that measure models: `unmask eval | grade | rescore | compare | lm-eval`.

`cli.main` registers them. A command parses its words, calls one function of `evaluation` and prints the
result; heavy packages are imported inside the commands.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unmask.cli.options import (
    Resume,
    ShowPrompt,
    Words,
    load,
    print_finished,
)
from unmask.cli.ranks import NumProcesses, begin, how_to_resume, opened

if TYPE_CHECKING:
    from unmask.evaluation.evaluate import Evaluation

app = typer.Typer()


@app.command(
    "eval",
    no_args_is_help=True,
    epilog="Examples: unmask eval configs/eval/chain_sum.toml model.path=runs/mine/model; "
    "unmask eval configs/eval/chain_sum.toml variations.static.strategy=static "
    "variations.dynamic.threshold=0.8",
)
def evaluate(
    words: Words,
    show_prompt: ShowPrompt = False,
    resume: Resume = False,
    nproc: NumProcesses = None,
) -> None:
    """Measure a model on a task, under one sampling or several, and print the metrics as JSON."""
    from unmask.configs.eval import EvalConfig

    config = begin(EvalConfig, words, show_prompt, resume, nproc)
    from unmask.evaluation.evaluate import evaluate_model

    with opened(config, f"the responses are kept; {how_to_resume()}") as world:
        evaluation = evaluate_model(config, resume, world)
        if world.is_main:
            _print(config.run.dir, evaluation)
            run = str(config.run.dir)
            print_finished(config.model.path, config.run.dir, "compare", run, "ANOTHER_RUN")


@app.command(
    no_args_is_help=True,
    epilog="Example: unmask grade answers.jsonl task.kind=dataset task.name=gsm8k task.path=test.jsonl",
)
def grade(
    responses: Annotated[
        Path,
        typer.Argument(
            metavar="RESPONSES.jsonl",
            help='Lines of {"response": TEXT}, in the order of the problems or with "problem": NUMBER.',
        ),
    ],
    words: Words,
) -> None:
    """Grade responses that another program wrote, and print a line of JSON for each."""
    from unmask.configs.grade import GradeConfig

    config, _ = load(GradeConfig, words)
    from unmask.evaluation.grade import grade_config, read_responses

    records = grade_config(config, read_responses(responses))
    for record in records:
        typer.echo(json.dumps(record))
    mean = sum(record["reward"] for record in records) / max(1, len(records))
    sys.stderr.write(f"{len(records)} responses, mean reward {mean:.4f}\n")


@app.command(
    no_args_is_help=True,
    epilog="Example: unmask rescore runs/gsm8k task.verifier.time_limit_s=20",
)
def rescore(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Directory of an evaluation.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TASK.KEY=VALUE]", help="Changed settings of the grader."),
    ] = None,
) -> None:
    """Grade the responses of an evaluation again, generating none; earlier verdicts are kept."""
    from unmask.evaluation.grading import rescore as grade_again

    grade_again(run, words or [])
    from unmask.evaluation.evaluate import conclude

    _print(run, conclude(run))
    sys.stderr.write(f"report: {run / 'report.html'}\n")


@app.command(
    no_args_is_help=True,
    epilog="Examples: unmask compare runs/before runs/after; "
    "unmask compare runs/gsm8k@static runs/gsm8k@dynamic",
)
def compare(
    first: Annotated[str, typer.Argument(metavar="RUN[@SAMPLING]", help="An evaluation.")],
    second: Annotated[str, typer.Argument(metavar="RUN[@SAMPLING]", help="Another one.")],
) -> None:
    """Compare two evaluations on the same problems, with a paired test."""
    from unmask.evaluation.comparison import compare_evaluations

    typer.echo(compare_evaluations(first, second))


@app.command(
    "lm-eval",
    no_args_is_help=True,
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,
    },
    epilog="Example: unmask lm-eval run --model unmask --model_args pretrained=runs/mine/model "
    "--tasks gsm8k. `unmask lm-eval run --help` lists the package's own options.",
)
def lm_eval(
    words: Annotated[
        list[str], typer.Argument(metavar="ARGS", help="As for the command `lm_eval`.")
    ],
) -> None:
    """Run lm-evaluation-harness with the model class `unmask` registered (extra: lm-eval)."""
    from importlib.util import find_spec

    if find_spec("lm_eval") is None:
        raise ValueError(
            "unmask lm-eval: the package lm_eval is not installed; install the extra: "
            "pip install 'unmask[lm-eval]'"
        )
    from unmask.evaluation.harness import run_harness

    run_harness(words)


def _print(run: Path, evaluation: "Evaluation") -> None:
    """Write the report, and print a table on stderr and JSON on stdout."""
    from unmask.viewer.report import write_report

    write_report(run)
    sys.stderr.write(f"{evaluation.table()}\n")
    typer.echo(json.dumps(evaluation.to_dict(), indent=2))
