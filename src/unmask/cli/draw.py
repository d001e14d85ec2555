"""`unmask draw`: images of texts, by a model that draws.

All images run through one engine together. One image is written to `--out`, several to numbered files next to it. A
file is written whole or not at all, and none is replaced.
"""

from pathlib import Path
from typing import Annotated

import typer

from unmask.cli.options import Device, ModelPath, Seed, sampling_of

app = typer.Typer()


@app.command(
    no_args_is_help=True,
    epilog='Example: unmask draw Gen-Verse/MMaDA-8B-MixCoT "a red fox in snow" --image-codec magvitv2 '
    "--out fox.png --n 4",
)
def draw(  # noqa: PLR0913 - one argument per option
    model: ModelPath,
    texts: Annotated[
        list[str], typer.Argument(metavar="TEXT", help="What to draw, one image for each.")
    ],
    out: Annotated[Path, typer.Option(help="Image to write; its extension decides the format.")],
    image_codec: Annotated[
        Path, typer.Option(metavar="DIR", help="The image tokenizer (MAGVIT-v2) of the model.")
    ],
    n: Annotated[int | None, typer.Option("--n", help="Images of each text.")] = None,
    seed: Seed = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps; 15 by default.")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="How far to follow the text; 3.5 by default, 0 is off.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Of the codes; 0 takes the likeliest.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Draw images of texts."""
    sampling = sampling_of(
        "mmada_image",
        n=n,
        seed=seed,
        denoising_steps=steps,
        guidance=guidance,
        temperature=temperature,
    )
    files = image_files(out, len(texts) * sampling.n)
    from unmask.configs.engine import EngineConfig
    from unmask.configs.model import ModelConfig
    from unmask.engine.build import build_llm
    from unmask.runs.files import atomic_file
    from unmask.runs.progress import Progress

    asked = ModelConfig(path=model, image_codec=str(image_codec), device=device)
    llm = build_llm(asked, EngineConfig())
    with Progress(len(files), "Drawing") as bar:
        drawings = llm.draw(texts, sampling, on_finish=lambda _: bar.advance())
    for file, drawing in zip(files, drawings, strict=True):
        assert drawing.picture is not None
        with atomic_file(file) as opened:
            drawing.picture.save(opened, _format_of(file))
        typer.echo(file)


def image_files(out: Path, count: int) -> list[Path]:
    """Return the files of so many images: `out` itself, or `fox-1.png`, `fox-2.png`, ... for `fox.png`.

    Raises:
        ValueError: if the extension is that of no format, the directory is not there, or a file is.
    """
    _format_of(out)
    if not out.parent.is_dir():
        raise ValueError(f"--out {out}: there is no directory {out.parent}; make it first")
    numbered = [out.with_stem(f"{out.stem}-{number}") for number in range(1, count + 1)]
    files = [out] if count == 1 else numbered
    for file in files:
        if file.exists():
            raise ValueError(f"--out {file}: exists; remove it or name another file")
    return files


def _format_of(file: Path) -> str:
    """Return Pillow's name of a format."""
    from unmask.models.vision.image_codec import FORMATS

    for name, extensions in FORMATS.items():
        if file.suffix.lower() in extensions:
            return name
    known = ", ".join(extension for group in FORMATS.values() for extension in group)
    raise ValueError(f"--out {file}: its extension must be one of {known}")
