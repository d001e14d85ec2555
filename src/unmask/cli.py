"""The one entry point: `unmask quickstart | sft | rl | eval | generate | config`.

A command reads its words, calls one function and prints what it returns; nothing is decided here that
a program could not ask for as well. Heavy packages are imported inside the commands, so that
`--help` answers at once.

Exit codes: 0 done, 2 the user can mend it (one line per mistake says how), 130 interrupted. Anything
else is a traceback, and a bug of ours.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from unmask.types import Message, SamplingParams, Strategy

if TYPE_CHECKING:
    from pydantic import BaseModel

    C = TypeVar("C", bound=BaseModel)

KINDS = ("sft", "rl", "eval")
SAMPLING = SamplingParams()

app = typer.Typer(
    # Plain help: drawing it with rich takes twice as long as all the rest.
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Post-train, evaluate and serve diffusion language models.",
    epilog="Start with: unmask quickstart. An error is one line; --debug anywhere adds the traceback.",
)

Words = Annotated[
    list[str],
    typer.Argument(
        metavar="CONFIG|KEY=VALUE",
        help="TOML files, later ones win, and single values laid over them.",
        show_default=False,
    ),
]


@app.command(epilog="Example: unmask quickstart --task countdown --seed 3")
def quickstart(
    task: Annotated[
        Literal["chain_sum", "mini_sudoku", "countdown"], typer.Option(help="What is learnt.")
    ] = "chain_sum",
    seed: Annotated[int, typer.Option(min=0, help="Every draw is derived from it.")] = 0,
    directory: Annotated[
        Path, typer.Option("--dir", help="Where it is written; an earlier run is moved aside.")
    ] = Path("runs/quickstart"),
) -> None:
    """Train a tiny model by SFT, then by RL, and compare the two."""
    from unmask.trainers.quickstart import run_quickstart

    run_quickstart(task, seed, directory)


@app.command(
    no_args_is_help=True, epilog="Example: unmask sft configs/sft/chain_sum.toml optimizer.lr=1e-3"
)
def sft(words: Words) -> None:
    """Fine-tune a model on demonstrations."""
    from unmask.configs.sft import SFTConfig

    config, _ = _load(SFTConfig, words)
    from unmask.trainers.sft import train_sft

    train_sft(config)


@app.command(
    no_args_is_help=True, epilog="Example: unmask rl configs/rl/chain_sum.toml run.dir=runs/mine"
)
def rl(words: Words) -> None:
    """Improve a model by RL along its trajectories (TraceRL)."""
    from unmask.configs.rl import RLConfig

    config, _ = _load(RLConfig, words)
    from unmask.trainers.rl import train_rl

    train_rl(config)


@app.command(
    "eval",
    no_args_is_help=True,
    epilog="Example: unmask eval configs/eval/chain_sum.toml model.path=runs/mine/model",
)
def evaluate(words: Words) -> None:
    """Measure a model on a task and print the numbers as JSON."""
    from unmask.configs.eval import EvalConfig

    config, _ = _load(EvalConfig, words)
    from unmask.evaluation.evaluate import evaluate_model

    typer.echo(json.dumps(evaluate_model(config).to_dict(), indent=2))


@app.command(
    no_args_is_help=True,
    epilog='Example: unmask generate runs/quickstart/rl/model "3+4+5=" --temperature 0',
)
def generate(  # noqa: PLR0913 - one argument per option
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Directory in Hugging Face layout, or a hub id.")
    ],
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT", help="What it answers.")],
    max_tokens: Annotated[
        int, typer.Option(help="Most tokens of a response.")
    ] = SAMPLING.max_tokens,
    temperature: Annotated[
        float, typer.Option(help="0 takes the most likely token.")
    ] = SAMPLING.temperature,
    strategy: Annotated[
        Strategy, typer.Option(help="Which slots a denoising step reveals.")
    ] = SAMPLING.strategy,
    threshold: Annotated[
        float, typer.Option(help="Confidence a slot must exceed under `dynamic`.")
    ] = SAMPLING.threshold,
    denoising_steps: Annotated[
        int | None, typer.Option(help="Denoising steps of a block; one per slot by default.")
    ] = SAMPLING.denoising_steps,
    seed: Annotated[int, typer.Option(help="Same seed, same response.")] = SAMPLING.seed,
    chat: Annotated[
        bool, typer.Option("--chat/--no-chat", help="Ask with the chat template if there is one.")
    ] = True,
) -> None:
    """Answer prompts and print the responses, one after the other."""
    sampling = SamplingParams(
        max_tokens=max_tokens,
        temperature=temperature,
        strategy=strategy,
        threshold=threshold,
        denoising_steps=denoising_steps,
        seed=seed,
    )
    from unmask.engine.llm import LLM

    llm = LLM(model)
    if chat:
        results = llm.chat([[Message("user", prompt)] for prompt in prompts], sampling)
    else:
        results = llm.generate(prompts, sampling)
    for result in results:
        typer.echo(result.text)


@app.command(
    no_args_is_help=True,
    epilog="Examples: unmask config rl --keys; unmask config configs/rl/chain_sum.toml steps=9",
)
def config(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="sft|rl|eval|CONFIG|KEY=VALUE",
            help="As for the command itself. The kind is the first word, or the first file's folder.",
            show_default=False,
        ),
    ],
    keys: Annotated[bool, typer.Option("--keys", help="List every key that exists.")] = False,
) -> None:
    """Print a configuration and where each value comes from."""
    from unmask.configs.keys import to_toml
    from unmask.configs.load import dump, flatten

    kind, rest = _kind(words)
    cls = _config_class(kind)
    if keys:
        _list_keys(cls)
        return
    resolved, origins = _load(cls, rest)
    lines = [(f"{name} = {to_toml(value)}", name) for name, value in flatten(dump(resolved))]
    width = min(max(len(line) for line, _ in lines), 60)
    for line, name in lines:
        typer.echo(f"{line:<{width}}  # {origins[name]}")


def main() -> None:
    """Run the command line; turn mistakes of the user into one line and exit code 2."""
    # Taken out here because it shall work anywhere on the line, for every command alike.
    is_debug = "--debug" in sys.argv
    try:
        app([word for word in sys.argv[1:] if word != "--debug"], prog_name="unmask")
    except (ValueError, OSError) as error:
        if is_debug:
            raise
        sys.stderr.write("".join(f"error: {line}\n" for line in _sentences(error)))
        sys.exit(2)


def _sentences(error: ValueError | OSError) -> list[str]:
    if isinstance(error, OSError) and error.strerror:
        return [f"{error.filename}: {error.strerror}" if error.filename else error.strerror]
    return str(error).splitlines() or [type(error).__name__]


def _load(cls: "type[C]", words: Sequence[str]) -> "tuple[C, dict[str, str]]":
    """Load a configuration from words: those with `=` are overrides, the others are files."""
    from unmask.configs.load import load_config

    files = [Path(word) for word in words if "=" not in word]
    return load_config(cls, files, [word for word in words if "=" in word])


def _kind(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Split off which configuration is meant: the first word, or else the first file's folder."""
    if words[0] in KINDS:
        return words[0], words[1:]
    folder = next((Path(word).parent.name for word in words if "=" not in word), "")
    if folder not in KINDS:
        raise ValueError(f"{words[0]}: say which kind first: unmask config rl {' '.join(words)}")
    return folder, words


def _config_class(kind: str) -> "type[BaseModel]":
    from unmask.configs.eval import EvalConfig
    from unmask.configs.rl import RLConfig
    from unmask.configs.sft import SFTConfig

    return {"sft": SFTConfig, "rl": RLConfig, "eval": EvalConfig}[kind]


def _list_keys(cls: "type[BaseModel]") -> None:
    from unmask.configs.keys import keys

    for key in keys(cls):
        default = key.default if key.default == "required" else f"default {key.default}"
        when = f"  only when {key.when}" if key.when else ""
        typer.echo(f"{key.name}  {key.type}  {default}{when}\n    {key.sentence}")
