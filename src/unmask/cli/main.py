"""The one entry point: `unmask quickstart | sft | rl | generate | config | runs | show | doctor`.

A command reads its words, calls one function and prints what it returns; nothing is decided here
that a program could not ask for as well. Heavy packages are imported inside the commands, so that
`--help` answers at once.

Exit codes: 0 done, 2 the user can mend it (one line per mistake says how), 130 and 143 stopped by Ctrl-C and SIGTERM.
Anything else is a traceback, and a bug of ours. `docs/cli.md` has the whole story.
"""

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from unmask import __version__
from unmask.cli import evaluate, models
from unmask.cli.options import FamilyName, Resume, ShowPrompt, Words, begin, load, print_finished
from unmask.presets import preset as published_sampler
from unmask.types import Message, SamplingParams, Strategy

if TYPE_CHECKING:
    from pydantic import BaseModel

    from unmask.importing.config import Kind
    from unmask.runs.print import Order, Pieces

KINDS = ("sft", "rl", "eval")
SAMPLING = SamplingParams()
DRAWN: "tuple[Order, int]" = ("sample", 3)

app = typer.Typer(
    # Plain help: drawing it with rich takes twice as long as all the rest.
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Post-train, evaluate and serve diffusion language models.",
    epilog="Start with: unmask quickstart. Exit codes: 0 done, 2 you can mend it (one line says how, "
    "--debug anywhere adds the traceback), 130 and 143 stopped by Ctrl-C and SIGTERM, 1 a bug of ours.",
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
        Literal["chain_sum", "mini_sudoku", "countdown"], typer.Option(help="What is learnt.")
    ] = "chain_sum",
    seed: Annotated[int, typer.Option(min=0, help="Every draw is derived from it.")] = 0,
    directory: Annotated[
        Path, typer.Option("--dir", help="Where it is written; an earlier run is moved aside.")
    ] = Path("runs/quickstart"),
) -> None:
    """Train a tiny model by SFT, then by RL, and compare the two."""
    from unmask.trainers.quickstart import run_quickstart

    _train(lambda: run_quickstart(task, seed, directory), "run it again")
    model = str(directory / "rl" / "model")
    print_finished(model, directory / "rl", "generate", model, "3+4+5=")


@app.command(
    no_args_is_help=True, epilog="Example: unmask sft configs/sft/chain_sum.toml optimizer.lr=1e-3"
)
def sft(words: Words, show_prompt: ShowPrompt = False, resume: Resume = False) -> None:
    """Fine-tune a model on demonstrations."""
    from unmask.configs.sft import SFTConfig

    config = begin(SFTConfig, words, show_prompt, resume)
    from unmask.trainers.sft import train_sft

    _train(lambda: train_sft(config, resume))
    model = str(config.run.dir / "model")
    print_finished(model, config.run.dir, "generate", model, "3+4+5=")


@app.command(
    no_args_is_help=True, epilog="Example: unmask rl configs/rl/chain_sum.toml run.dir=runs/mine"
)
def rl(words: Words, show_prompt: ShowPrompt = False, resume: Resume = False) -> None:
    """Improve a model by RL along its trajectories (TraceRL)."""
    from unmask.configs.rl import RLConfig

    config = begin(RLConfig, words, show_prompt, resume)
    from unmask.trainers.rl import train_rl

    _train(lambda: train_rl(config, resume))
    run = config.run.dir
    print_finished(run / "model", run, "show", str(run), "--worst", "3")


@app.command(
    no_args_is_help=True,
    epilog='Example: unmask generate runs/quickstart/rl/model "3+4+5=" --temperature 0',
)
def generate(  # noqa: PLR0913 - one argument per option
    context: typer.Context,
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
    preset: Annotated[
        str | None,
        typer.Option(help="A published sampler (llada_official); options given beside it win."),
    ] = None,
    adapter: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="LoRA adapters, in peft's files, laid over the model."),
    ] = None,
    device: Annotated[
        str, typer.Option(help="cpu, cuda, cuda:1; auto is the GPU if there is one.")
    ] = "auto",
    family: FamilyName = None,
    chat: Annotated[
        bool, typer.Option("--chat/--no-chat", help="Ask with the chat template if there is one.")
    ] = True,
) -> None:
    """Answer prompts and print the responses, one after the other."""
    options: dict[str, Any] = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "strategy": strategy,
        "threshold": threshold,
        "denoising_steps": denoising_steps,
        "seed": seed,
    }
    stated = {name: options[name] for name in options if _is_stated(context, name)}
    sampling = published_sampler(preset, **stated) if preset else SamplingParams(**stated)
    from unmask.configs.engine import EngineConfig
    from unmask.configs.model import ModelConfig
    from unmask.engine.build import build_llm

    config = ModelConfig(path=model, adapter=adapter, device=device, family=family)
    llm = build_llm(config, EngineConfig())
    if chat:
        results = llm.chat([[Message("user", prompt)] for prompt in prompts], sampling)
    else:
        results = llm.generate(prompts, sampling)
    for result in results:
        typer.echo(result.text)


def _is_stated(context: typer.Context, name: str) -> bool:
    """Say whether an option was given, be it with its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


@app.command(
    no_args_is_help=True,
    epilog="Examples: unmask config rl --keys; unmask config configs/rl/chain_sum.toml steps=9; "
    "unmask config import rl_sdar.yaml > mine.toml",
)
def config(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="sft|rl|eval|CONFIG|KEY=VALUE|import FILE.yaml",
            help="As for the command itself. The kind is the first word, or the first file's folder. "
            "`import` translates a configuration of dLLM-RL to TOML.",
            show_default=False,
        ),
    ],
    keys: Annotated[bool, typer.Option("--keys", help="List every key that exists.")] = False,
    kind: Annotated[
        Literal["sft", "rl", "eval"] | None,
        typer.Option(help="With import: what for; found in the file when not given."),
    ] = None,
    base: Annotated[
        Literal["sdar", "trado", "llada", "mmada", "dream"] | None,
        typer.Option(help="With import: which kind of model, where the file does not tell."),
    ] = None,
    devices: Annotated[
        int | None, typer.Option(min=1, help="With import: on how many the file was run.")
    ] = None,
    lossy: Annotated[
        bool, typer.Option("--lossy", help="With import: write what would run otherwise as well.")
    ] = False,
) -> None:
    """Print a configuration and where each value comes from, or translate a foreign one."""
    if words[0] == "import":
        _import(words[1:], kind, base, devices, lossy)
        return
    for option, given in (("kind", kind), ("base", base), ("devices", devices), ("lossy", lossy)):
        if given:
            raise ValueError(f"--{option}: goes with `import FILE.yaml`")
    from unmask.configs.keys import to_toml
    from unmask.configs.load import dump, flatten

    name, rest = _kind(words)
    cls = _config_class(name)
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
        typer.Argument(metavar="[DIR | A B]", help="Where to look, runs/ by default; or two runs."),
    ] = None,
) -> None:
    """List the runs in a directory, or compare two of them."""
    found = places or [Path("runs")]
    if len(found) > 2:
        raise ValueError(
            f"{len(found)} directories: give one to list its runs, or two runs to compare"
        )
    if len(found) == 2:
        from unmask.runs.compare import compare_runs

        typer.echo(compare_runs(*found))
        return
    from unmask.runs.listing import list_runs

    typer.echo(list_runs(found[0]))


@app.command(
    no_args_is_help=True,
    epilog="Examples: unmask show runs/quickstart/rl --step 40 --worst 5; unmask show rollouts.json",
)
def show(
    place: Annotated[
        Path, typer.Argument(metavar="RUN|FILE", help="A run, or a JSON file of dLLM-RL.")
    ],
    step: Annotated[int | None, typer.Option(help="Which step; the last by default.")] = None,
    worst: Annotated[int | None, typer.Option(min=1, help="This many with least reward.")] = None,
    best: Annotated[int | None, typer.Option(min=1, help="This many with most reward.")] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="This many drawn; 3 by default.")
    ] = None,
) -> None:
    """Print trajectories, with the order in which their tokens were revealed."""
    asked: dict[Order, int | None] = {"worst": worst, "best": best, "sample": sample}
    given: list[tuple[Order, int]] = [
        (order, count) for order, count in asked.items() if count is not None
    ]
    if len(given) > 1:
        raise ValueError(f"--{given[0][0]} and --{given[1][0]}: give one of them")
    from unmask.runs.print import choose, print_trajectories, read_step

    pieces = None
    if place.is_dir():
        records = read_step(place / "trajectories.jsonl", step)
        if not all("pieces" in record for record in records):
            pieces = _pieces(place)
    else:
        from unmask.importing.data import records_of_file

        if step is not None:
            raise ValueError(f"--step {step}: {place} has no steps; give a run's directory")
        records, unread = records_of_file(place)
        if unread:
            typer.echo(f"not shown: {', '.join(unread)}", err=True)
    order, count = given[0] if given else DRAWN
    print_trajectories(choose(records, order, count), pieces)


@app.command(epilog="Example: unmask doctor --dir /data/runs")
def doctor(
    directory: Annotated[Path, typer.Option("--dir", help="Where runs will be written.")] = Path(
        "runs"
    ),
) -> None:
    """Say what this machine has and what is missing; exit code 2 if something required is."""
    from unmask.cli.doctor import examine, is_fit, report

    findings = examine(directory)
    typer.echo(report(findings))
    if not is_fit(findings):
        raise typer.Exit(2)


app.registered_commands += [*evaluate.app.registered_commands, *models.app.registered_commands]


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


def _train(run: Callable[[], object], way_on: str = "") -> None:
    """Run a training; when a signal ends it, say how to go on and exit as the shell expects."""
    from unmask.runs.stopped import Stopped

    words = shlex.join(word for word in sys.argv[1:] if word != "--resume")

    try:
        run()
    except Stopped as stopped:
        sys.stderr.write(f"{stopped}; {way_on or f'go on with: unmask {words} --resume'}\n")
        raise typer.Exit(128 + stopped.signal_number) from None


def _sentences(error: ValueError | OSError) -> list[str]:
    lines = str(error).splitlines() or [type(error).__name__]
    if isinstance(error, OSError) and error.strerror:
        lines = [f"{error.filename}: {error.strerror}" if error.filename else error.strerror]
    return [*lines, *getattr(error, "__notes__", ())]


def _pieces(run: Path) -> "Pieces | None":
    """Return what splits the token ids of a run into pieces of text, if its tokenizer is there."""
    from unmask.checkpoints.tokenizer import token_pieces
    from unmask.evaluation.reading import find_tokenizer
    from unmask.runs.history import read_run

    tokenizer = find_tokenizer(run, read_run(run).config["model"]["path"])
    return None if tokenizer is None else lambda ids: token_pieces(ids, tokenizer)


def _import(
    words: Sequence[str], kind: "Kind | None", base: str | None, devices: int | None, lossy: bool
) -> None:
    """Print a configuration of dLLM-RL as TOML, and on stderr what is no line of it."""
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
