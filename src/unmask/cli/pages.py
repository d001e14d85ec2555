"""`unmask report` and `unmask view`: pages about runs and their trajectories."""

import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()

Out = Annotated[Path | None, typer.Option("--out", help="The page to write.")]
Open = Annotated[bool, typer.Option("--open", help="Show the page in the browser.")]


@app.command(
    no_args_is_help=True,
    epilog="Examples: unmask report runs/quickstart/rl; unmask report runs/a runs/b --out ab.html",
)
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Directories of runs.")],
    out: Out = None,
    open_page: Open = False,
) -> None:
    """Draw a run's report.html from the files in its directory, or one page that compares runs."""
    from unmask.runs.lock import lock
    from unmask.runs.read import check_run
    from unmask.viewer.comparison import write_comparison
    from unmask.viewer.report import write_report

    for run in runs:
        check_run(run)
    if len(runs) > 1:
        _print(write_comparison(runs, out or Path("comparison.html")), open_page)
        return
    try:
        with lock(runs[0]):
            is_running = False
    except ValueError:  # the run's own process holds the lock
        is_running = True
    _print(write_report(runs[0], is_running, out), open_page)


@app.command(
    no_args_is_help=True,
    epilog="Examples: unmask view runs/quickstart/rl --step 40; unmask view responses.jsonl --open; "
    "unmask view responses.jsonl --out last.svg",
)
def view(
    place: Annotated[
        Path, typer.Argument(metavar="RUN|FILE", help="A run, or JSON Lines of `unmask generate`.")
    ],
    step: Annotated[int | None, typer.Option(help="Only those of an optimizer step.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The page; or, named .svg, a picture that plays the last trajectory."),
    ] = None,
    open_page: Open = False,
) -> None:
    """Write a page that plays recorded trajectories token by token, or an animated picture of one."""
    from unmask.viewer.view import write_view

    page = out or (place / "view.html" if place.is_dir() else place.with_suffix(".html"))
    found = write_view(place, page, step)
    if found.num_left_out or found.num_unplayable:
        sys.stderr.write(
            f"left out: {found.num_left_out:,} earlier trajectories that did not fit, "
            f"{found.num_unplayable:,} records that cannot be played\n"
        )
    _print(page, open_page)


def _print(page: Path, is_opened: bool) -> None:
    typer.echo(page)
    if is_opened:
        webbrowser.open(page.absolute().as_uri())
