"""The entry point: `unmask quickstart | sft | rl | trace | config | runs | show | doctor`, and all other commands.

A command parses its words, calls one function and prints the result, so that a program can do all that
the command line does. Heavy packages are imported inside the commands, so that `--help` is fast.

Exit codes: 0 done; 2 an error that the user can correct, in one line per mistake; 130 and 143 stopped
by Ctrl-C and SIGTERM. Anything else is a traceback and a bug of unmask. See `docs/cli.md`.
"""

import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from unmask import __version__
from unmask.cli import chat, data, draw, evaluate, export, generate, models, pages, plan, serve
from unmask.cli.options import (
    Resume,
    ShowPrompt,
    Words,
    error_lines,
    kind_of,
    load,
    print_finished,
)
from unmask.cli.ranks import (
    NumProcesses,
    agreed_start,
    begin,
    how_to_resume,
    opened,
    start_processes,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

    from unmask.configs.dpo import DPOConfig
    from unmask.configs.sft import SFTConfig
    from unmask.importing.config import Kind
    from unmask.runs.print import Order, Pieces

DRAWN: "tuple[Order, int]" = ("sample", 3)

app = typer.Typer(
    # Plain help: drawing it with rich takes twice as long as all the rest.
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Post-train, evaluate and serve diffusion language models.",
    epilog="Start with: unmask quickstart. Exit codes: 0 done, 2 an error that you can correct (one line "
    "says how, --debug anywhere adds the traceback), 130 and 143 stopped by Ctrl-C and SIGTERM, 1 a bug of unmask.",
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"unmask {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Take the options of the program itself."""


@app.command(epilog="Example: unmask quickstart --task countdown --seed 3")
def quickstart(
    task: Annotated[
        Literal["chain_sum", "mini_sudoku", "countdown"], typer.Option(help="Task to learn.")
    ] = "chain_sum",
    seed: Annotated[int, typer.Option(min=0, help="Seed of all draws.")] = 0,
    directory: Annotated[
        Path, typer.Option("--dir", help="Output directory; an earlier run is renamed.")
    ] = Path("runs/quickstart"),
) -> None:
    """Train a tiny model by SFT, then by RL, and compare the two."""
    from unmask.trainers.quickstart import run_quickstart

    with _stoppable("run quickstart again"):
        run_quickstart(task, seed, directory)
    model = str(directory / "rl" / "model")
    print_finished(model, directory / "rl", "generate", model, "3+4+5=")


def _train(train: Callable[..., Path], config: "SFTConfig | DPOConfig", resume: bool) -> None:
    """Train on data with all ranks, and print where the model is."""
    from unmask.distributed.start import open_world

    with _stoppable(how_to_resume()), open_world(config) as world:
        train(config, resume, world)
        model = str(config.run.dir / "model")
        print_finished(model, config.run.dir, "chat", model)


@app.command(
    no_args_is_help=True, epilog="Example: unmask sft configs/sft/chain_sum.toml optimizer.lr=1e-3"
)
def sft(
    words: Words,
    show_prompt: ShowPrompt = False,
    resume: Resume = False,
    nproc: NumProcesses = None,
) -> None:
    """Fine-tune a model on demonstrations."""
    from unmask.configs.sft import SFTConfig

    config = begin(SFTConfig, words, show_prompt, resume, nproc)
    from unmask.trainers.sft import train_sft

    _train(train_sft, config, resume)


@app.command(
    no_args_is_help=True,
    epilog="Example: unmask dpo configs/dpo/vrpo.toml model.path=runs/sft/model pairs.path=pairs.jsonl",
)
def dpo(
    words: Words,
    show_prompt: ShowPrompt = False,
    resume: Resume = False,
    nproc: NumProcesses = None,
) -> None:
    """Train a model on preference pairs, without rollouts (DPO)."""
    from unmask.configs.dpo import DPOConfig

    config = begin(DPOConfig, words, show_prompt, resume, nproc)
    from unmask.trainers.dpo import train_dpo

    _train(train_dpo, config, resume)


@app.command(
    "reward-model",
    no_args_is_help=True,
    epilog="Example: unmask reward-model model.path=runs/sft/model pairs.path=pairs.jsonl run.dir=runs/judge",
)
def reward_model(words: Words, resume: Resume = False) -> None:
    """Train a reward model on preference pairs, for `[[reward]]` of RL."""
    from unmask.configs.reward_model import RewardModelConfig
    from unmask.runs.directory import check_run

    config, _ = load(RewardModelConfig, words)
    check_run(config, resume)  # before torch is loaded, which takes seconds
    from unmask.trainers.reward_model import train_reward_model

    with _stoppable(how_to_resume()):
        model = train_reward_model(config, resume)
    typer.echo(f'[[reward]]\nkind = "reward_model"\npath = "{model}"')


@app.command(
    no_args_is_help=True, epilog="Example: unmask rl configs/rl/chain_sum.toml run.dir=runs/mine"
)
def rl(
    words: Words,
    show_prompt: ShowPrompt = False,
    resume: Resume = False,
    nproc: NumProcesses = None,
) -> None:
    """Improve a model by RL along its trajectories (TraceRL)."""
    from unmask.configs.rl import RLConfig

    config = begin(RLConfig, words, show_prompt, resume, nproc)
    from unmask.distributed.start import open_world
    from unmask.trainers.rl import train_rl

    with _stoppable(how_to_resume()), open_world(config) as world:
        train_rl(config, resume, world)
        run = config.run.dir
        print_finished(run / "model", run, "show", str(run), "--worst", "3")


@app.command(
    no_args_is_help=True,
    epilog="Example: unmask trace mine.toml --out traces.jsonl; then "
    "unmask sft mine.toml data.path=traces.jsonl views.kind=trace",
)
def trace(
    words: Words,
    out: Annotated[Path, typer.Option("--out", help="JSON Lines file to write.")],
    free: Annotated[
        bool, typer.Option("--free", help="The model's own responses; else the data's, forced.")
    ] = False,
    nproc: NumProcesses = None,
) -> None:
    """Record the order in which a model writes the responses of a data set, for trace SFT."""
    from unmask.configs.sft import SFTConfig

    with agreed_start():
        config, _ = load(SFTConfig, words)
    start_processes(nproc, config.distributed.timeout_minutes)
    from unmask.trainers.traces import write_traces

    with opened(config, "no file is written") as world:
        count = write_traces(config, out, free, world)
        sys.stderr.write(f"{count} trajectories in {out}\n")


@app.command(
    no_args_is_help=True,
    epilog="Examples: unmask config rl --keys; unmask config configs/rl/chain_sum.toml steps=9; "
    "unmask config list; unmask config print rl/gsm8k > mine.toml; "
    "unmask config import rl_sdar.yaml > mine.toml",
)
def config(  # noqa: PLR0913 - one argument per option
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="sft|dpo|reward-model|rl|eval|CONFIG|KEY=VALUE|list|print NAME|import FILE.yaml",
            help="As for the command itself. The kind is the first word, or the folder of the first file. "
            "`list` names the files that come with unmask, which every command takes by name; `print` copies "
            "one to stdout. `import` translates a configuration of dLLM-RL to TOML.",
            show_default=False,
        ),
    ],
    keys: Annotated[bool, typer.Option("--keys", help="List every key that exists.")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of the TOML file, for editors.")
    ] = False,
    kind: Annotated[
        Literal["sft", "rl", "eval"] | None,
        typer.Option(help="With import: the kind; read from the file if not given."),
    ] = None,
    base: Annotated[
        Literal["sdar", "trado", "llada", "mmada", "dream"] | None,
        typer.Option(help="With import: the kind of model, if the file does not name it."),
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(min=1, help="With import: the number of devices of the original run."),
    ] = None,
    lossy: Annotated[
        bool,
        typer.Option("--lossy", help="With import: also write keys that run differently here."),
    ] = False,
) -> None:
    """Print a configuration with the origin of each value, its keys or its schema; list those that come with unmask."""
    if words[0] in ("list", "print"):
        _print_shipped(words[0], words[1:])
        return
    if words[0] == "import":
        _import(words[1:], kind, base, devices, lossy)
        return
    for option, given in (("kind", kind), ("base", base), ("devices", devices), ("lossy", lossy)):
        if given:
            raise ValueError(f"--{option}: only with `import FILE.yaml`")
    from unmask.configs.keys import schema_text, to_toml
    from unmask.configs.load import dump, flatten

    name, rest = kind_of(words, "config")
    cls = _config_class(name)
    if schema:
        typer.echo(schema_text(cls))
        return
    if keys:
        _list_keys(cls)
        return
    resolved, origins = load(cls, rest)
    lines = [(f"{name} = {to_toml(value)}", name) for name, value in flatten(dump(resolved))]
    width = min(max(len(line) for line, _ in lines), 60)
    for line, name in lines:
        typer.echo(f"{line:<{width}}  # {origins[name]}")


@app.command(epilog="Examples: unmask runs; unmask runs runs/quickstart; unmask runs runs/a runs/b")
def runs(
    places: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[DIR | A B]", help="Directory of runs, runs/ by default; or two runs."
        ),
    ] = None,
) -> None:
    """List the runs in a directory, or compare two of them."""
    found = places or [Path("runs")]
    if len(found) > 2:
        raise ValueError(f"{len(found)} directories: give one to list its runs, or two to compare")
    from unmask.runs.compare import compare_runs
    from unmask.runs.listing import list_runs

    typer.echo(compare_runs(*found) if len(found) == 2 else list_runs(found[0]))


@app.command(
    no_args_is_help=True,
    epilog="Examples: unmask show runs/quickstart/rl --step 40 --worst 5; unmask show rollouts.json",
)
def show(
    place: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|FILE", help="A run, a file of generate or chat, or one of dLLM-RL."
        ),
    ],
    step: Annotated[int | None, typer.Option(help="Optimizer step; the last by default.")] = None,
    worst: Annotated[int | None, typer.Option(min=1, help="Number with least reward.")] = None,
    best: Annotated[int | None, typer.Option(min=1, help="Number with most reward.")] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="Number drawn; 3 by default.")] = None,
) -> None:
    """Print trajectories with the order in which their tokens were revealed."""
    asked: dict[Order, int | None] = {"worst": worst, "best": best, "sample": sample}
    given: list[tuple[Order, int]] = [(k, count) for k, count in asked.items() if count is not None]
    if len(given) > 1:
        raise ValueError(f"--{given[0][0]} and --{given[1][0]}: give one of them")
    from unmask.runs.print import choose, print_trajectories, read_step, read_trajectories

    pieces = None
    if place.is_dir():
        records = read_step(place / "trajectories.jsonl", step)
        if not all("pieces" in record for record in records):
            pieces = _pieces(place)
    elif step is not None:
        raise ValueError(f"--step {step}: {place} has no steps; give a run's directory")
    elif place.is_file() and (found := read_trajectories(place)):
        records = found
    else:
        from unmask.importing.data import records_of_file

        records, unread = records_of_file(place)
        if unread:
            typer.echo(f"not shown: {', '.join(unread)}", err=True)
    print_trajectories(choose(records, *(given or [DRAWN])[0]), pieces)


@app.command(epilog="Example: unmask doctor --dir /data/runs")
def doctor(
    directory: Annotated[Path, typer.Option("--dir", help="Directory for runs.")] = Path("runs"),
) -> None:
    """Check this machine; exit code 2 if something required is missing."""
    from unmask.cli.doctor import examine, is_fit, report

    findings = examine(directory)
    typer.echo(report(findings))
    if not is_fit(findings):
        raise typer.Exit(2)


for part in (chat, data, draw, evaluate, export, generate, models, pages, plan, serve):
    app.registered_commands += part.app.registered_commands


def main() -> None:
    """Run the command line; turn errors of the user into one line each and exit code 2."""
    # Parsed here, so that it works at any place of the line and for every command.
    is_debug = "--debug" in sys.argv
    try:
        app([word for word in sys.argv[1:] if word != "--debug"], prog_name="unmask")
    except (ValueError, OSError) as error:
        if is_debug:
            raise
        sys.stderr.write("".join(f"error: {line}\n" for line in error_lines(error)))
        sys.exit(2)


@contextmanager
def _stoppable(how_to_continue: str) -> Generator[None, None, None]:
    """After a signal that stopped a training, print how to continue and exit as the shell expects."""
    from unmask.runs.signals import Stopped

    try:
        yield
    except Stopped as stopped:
        sys.stderr.write(f"{stopped}; {how_to_continue}\n")
        raise typer.Exit(128 + stopped.signal_number) from None


def _pieces(run: Path) -> "Pieces | None":
    """Return the function that splits token ids into pieces of text, if the run has a tokenizer."""
    from unmask.checkpoints.tokenizer import token_pieces
    from unmask.cli.first_prompt import find_tokenizer
    from unmask.json_files import read_object

    tokenizer = find_tokenizer(run, read_object(run / "config.json")["model"]["path"])
    return None if tokenizer is None else lambda ids: token_pieces(ids, tokenizer)


def _import(
    words: Sequence[str], kind: "Kind | None", base: str | None, devices: int | None, lossy: bool
) -> None:
    """Print a configuration of dLLM-RL as TOML, and on stderr the keys without a line in it."""
    from unmask.importing.config import translate
    from unmask.importing.data import read_yaml

    if len(words) != 1:
        raise ValueError(
            "import: give one YAML file: unmask config import rl_sdar.yaml > mine.toml"
        )
    text, summary = translate(read_yaml(Path(words[0])), kind, base, devices, lossy)
    typer.echo(text)
    for sentence in summary:
        typer.echo(sentence, err=True)


def _print_shipped(action: str, names: Sequence[str]) -> None:
    """List the files that come with unmask, or print one."""
    from unmask.configs.shipped import listing, text_of

    if len(names) != (action == "print"):
        raise ValueError(
            "write `unmask config list`, or `unmask config print` with one of the names it lists"
        )
    typer.echo(listing() if action == "list" else text_of(names[0]).rstrip("\n"))


def _config_class(kind: str) -> "type[BaseModel]":
    from unmask.runs.defaults import CONFIGS

    return CONFIGS[kind]


def _list_keys(cls: "type[BaseModel]") -> None:
    from unmask.configs.keys import keys

    for key in keys(cls):
        default = key.default if key.default == "required" else f"default {key.default}"
        when = f"  only when {key.when}" if key.when else ""
        typer.echo(f"{key.name}  {key.type}  {default}{when}\n    {key.sentence}")
