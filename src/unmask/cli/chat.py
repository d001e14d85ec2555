"""`unmask chat`: a conversation in the terminal, in which tokens appear where they are revealed.

Without a terminal on both sides it reads plain lines and writes plain text, and an error ends it.
"""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from unmask.cli.options import (
    Images,
    ModelOptions,
    ModelPath,
    SamplingOptions,
    error_lines,
    with_options,
)

if TYPE_CHECKING:
    from unmask.cli.chat_session import Session

app = typer.Typer()


@app.command(
    no_args_is_help=True,
    epilog='Example: unmask chat MODEL --system "Answer in one sentence." --threshold 0.8',
)
@with_options
def chat(
    model: ModelPath,
    sampling: SamplingOptions,
    loading: ModelOptions,
    system: Annotated[str | None, typer.Option(help="Text of a system message.")] = None,
    image: Images = None,
) -> None:
    """Talk to a model and watch it write; /help lists the commands of a conversation."""
    params = sampling.params()
    from rich.console import Console

    from unmask.cli.chat_session import Session
    from unmask.configs.engine import EngineConfig
    from unmask.engine.build import build_llm

    llm = build_llm(loading.config(model), EngineConfig())
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    console = Console(highlight=False, force_terminal=None if is_terminal else False)
    session = Session(llm, params, console, system)
    for path in image or []:
        session.add_image(path)
    if llm.require_tokenizer().chat_template is None:
        session.note("the model has no chat template: it reads the messages as one text")
    if not is_terminal:
        for line in sys.stdin:
            if not session.take(line.rstrip("\r\n")):
                return
        return
    session.note(f"{model}; /help lists the commands, Ctrl-D leaves")
    converse(session)


def converse(session: "Session") -> None:
    """Read lines of a terminal until the user leaves; Ctrl-C stops an answer, errors are printed."""
    import readline  # noqa: F401  # pyright: ignore[reportUnusedImport] - gives `input` editing and history
    import signal

    # Explicitly: a shell makes its background jobs, and what they start, ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    while True:
        try:
            if not session.take(input("> ")):
                return
        except EOFError:
            session.console.print()
            return
        except KeyboardInterrupt:
            session.console.print()
            session.note("stopped; /quit or Ctrl-D leaves")
        except (ValueError, OSError) as error:
            for line in error_lines(error):
                session.note(f"error: {line}")
