"""What commands of several files share: their words, how a configuration is loaded, the first prompt."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

    from unmask.configs.eval import EvalConfig
    from unmask.configs.rl import RLConfig
    from unmask.configs.sft import SFTConfig

    C = TypeVar("C", bound=BaseModel)
    R = TypeVar("R", SFTConfig, RLConfig, EvalConfig)

Words = Annotated[
    list[str],
    typer.Argument(
        metavar="CONFIG|KEY=VALUE",
        help="TOML files, later ones win, and single values laid over them.",
        show_default=False,
    ),
]
FamilyName = Annotated[
    str | None,
    typer.Option(help="The model's family as module:OBJECT; found in the model by default."),
]
ShowPrompt = Annotated[
    bool,
    typer.Option("--show-prompt", help="Only print the first prompt as the model will read it."),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with what is there in run.dir, to the bit.")
]


def load(cls: "type[C]", words: Sequence[str]) -> "tuple[C, dict[str, str]]":
    """Load a configuration from words: those with `=` are overrides, the others are files."""
    from unmask.configs.load import load_config

    files = [Path(word) for word in words if "=" not in word]
    return load_config(cls, files, [word for word in words if "=" in word])


def begin(cls: "type[R]", words: Sequence[str], show_prompt: bool, resume: bool) -> "R":
    """Load the configuration of a run and check that the run may begin; or only print its first prompt, and end."""
    from unmask.runs.directory import check_run

    config, _ = load(cls, words)
    if show_prompt:
        print_first_prompt(config)
        raise typer.Exit
    check_run(config, resume)  # before torch is loaded, which takes seconds
    return config


def print_finished(model: str | Path, run: Path, *command: str) -> None:
    """Print on stderr where a run's model and report are, and a command that comes next."""
    sys.stderr.write(f"model:  {model}\n")
    if (page := run / "report.html").is_file():
        sys.stderr.write(f"report: {page}\n")
    sys.stderr.write(f"next:   unmask {shlex.join(command)}\n")


def print_first_prompt(config: "SFTConfig | RLConfig | EvalConfig") -> None:
    """Print the first prompt as the model will read it."""
    from unmask.configs.sft import SFTConfig
    from unmask.evaluation.reading import describe_prompt, first_prompt, tokenizer_of

    if isinstance(config, SFTConfig) and config.data.path is not None:
        from unmask.data.demonstrations import demonstrations_of_file

        tokenizer = tokenizer_of(config.model.path)
        ids = demonstrations_of_file(config.data.path, tokenizer)[0].prompt_ids
        typer.echo(describe_prompt(f"{config.data.path}, first prompt", ids, tokenizer))
        return
    typer.echo(first_prompt(config))
