"""`unmask generate`: the responses of a model to words, or to the prompts of a file or of stdin.

Responses to words are printed as text. Responses to a file are JSON Lines in the order of its prompts: the
records of `trajectories.jsonl`, with token ids, step map, log-probabilities and sampling. All prompts run
through one engine together. A line is written as soon as those before it are; so an interrupted command
leaves the lines before the first response that was still missing. Several processes make shares of the responses;
the file is that of one process.
"""

from pathlib import Path
from typing import Annotated

import typer

from unmask.cli.options import (
    ImageRoot,
    Images,
    ModelOptions,
    ModelPath,
    PromptFile,
    SamplingOptions,
    with_options,
)
from unmask.cli.ranks import NumProcesses, agreed_start, opened, start_processes

app = typer.Typer()


@app.command(
    no_args_is_help=True,
    epilog='Examples: unmask generate runs/quickstart/rl/model "3+4+5=" --temperature 0; '
    "unmask generate MODEL --from prompts.jsonl --out responses.jsonl; "
    'unmask generate MODEL "What is this?" --image photo.jpg',
)
@with_options
def generate(  # noqa: PLR0913 - one argument per option
    model: ModelPath,
    sampling: SamplingOptions,
    loading: ModelOptions,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[PROMPT]", help="Texts to respond to.")
    ] = None,
    source: PromptFile = None,
    image: Images = None,
    image_root: ImageRoot = None,
    out: Annotated[
        Path | None,
        typer.Option(help="JSON Lines file to write; stdout by default, as text for words."),
    ] = None,
    n: Annotated[int | None, typer.Option("--n", help="Responses per prompt.")] = None,
    chat: Annotated[
        bool, typer.Option("--chat/--no-chat", help="Use the model's chat template if it has one.")
    ] = True,
    nproc: NumProcesses = None,
) -> None:
    """Answer prompts: print the responses, or write them with the order of revealing as JSON Lines."""
    with agreed_start():
        params = sampling.params(n=n)
        if out and out.exists():
            raise ValueError(f"--out {out}: exists; remove it or name another file")
        from unmask.configs.generate import GenerateConfig
        from unmask.configs.run import RunConfig

        directory = (out or Path("out")).parent
        config = GenerateConfig(model=loading.config(model), run=RunConfig(dir=directory))
    start_processes(nproc, config.distributed.timeout_minutes)
    from unmask.cli.answers import answer_all
    from unmask.cli.prompts import Asked

    with opened(config, "the responses before the first missing one are written") as world:
        asked = Asked(words or [], source, image or [], image_root)
        answer_all(config, asked, params, out, world, chat)
