"""`unmask export`: a model as a directory, or a repository of the Hub, that opens without unmask."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unmask.cli.options import FamilyName

if TYPE_CHECKING:
    from unmask.exporting.model_card import Facts

app = typer.Typer()

OPENS_WITH = {
    "own": 'AutoModelForCausalLM.from_pretrained("{place}", trust_remote_code=True), by modeling_unmask.py',
    "published": '{auto}.from_pretrained("{place}", trust_remote_code=True), by the published code',
    "adapter": 'PeftModel.from_pretrained(base, "{place}"), where base is {base}',
}


Source = Annotated[
    str, typer.Argument(metavar="RUN|MODEL", help="A run, the directory of a model, or a hub id.")
]
Destination = Annotated[
    Path, typer.Argument(metavar="DIR", help="Where it is written: new, or empty.")
]
Push = Annotated[
    str | None,
    typer.Option(
        metavar="USER/NAME",
        help="Also upload it to the Hugging Face Hub, with the token of `hf auth login` or HF_TOKEN.",
    ),
]
IsPrivate = Annotated[
    bool | None,
    typer.Option(
        "--private/--public",
        help="Visibility of a repository that --push creates; by default what its owner has set.",
    ),
]
MergeLora = Annotated[
    bool,
    typer.Option(
        "--merge-lora",
        help="Write the merged model of a run with [lora]; without it, its adapters in peft's files.",
    ),
]
OwnCode = Annotated[
    bool,
    typer.Option(
        "--own-code",
        help="Write modeling_unmask.py even where MODEL holds its authors' code, as when that needs "
        "another transformers.",
    ),
]
Licence = Annotated[
    str | None,
    typer.Option(
        "--license", metavar="ID", help="apache-2.0, mit, ...; the base model's card by default."
    ),
]
BaseModel = Annotated[
    str | None,
    typer.Option(metavar="USER/NAME", help="Base model on the Hub; found in the runs by default."),
]
Evaluations = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="RUN", help="A run of `unmask eval` whose results the card holds; repeatable."
    ),
]


@app.command(
    no_args_is_help=True,
    epilog="Examples: unmask export runs/quickstart/rl exported; "
    "unmask export runs/mine exported --evaluation runs/mine-eval --license apache-2.0 --push USER/NAME --private; "
    "unmask export runs/lora merged --merge-lora",
)
def export(  # noqa: PLR0913 - one argument per option
    source: Source,
    directory: Destination,
    push: Push = None,
    private: IsPrivate = None,
    merge_lora: MergeLora = False,
    own_code: OwnCode = False,
    licence: Licence = None,
    base_model: BaseModel = None,
    evaluation: Evaluations = None,
    family: FamilyName = None,
) -> None:
    """Write a model as a directory that `AutoModelForCausalLM` opens without unmask, with a model card.

    The directory holds the weights, config, tokenizer and generation config under the family's published names, its
    published modelling code where MODEL has it, else a modelling file of ours, and README.md: base model, method,
    data, metrics, licence.
    """
    from unmask.exporting.export import ExportParams, notes
    from unmask.exporting.export import export as write
    from unmask.exporting.hub import check_account
    from unmask.exporting.hub import push as upload

    params = ExportParams(
        source=source,
        merge_lora=merge_lora,
        own_code=own_code,
        licence=licence,
        base=base_model,
        evaluations=tuple(evaluation or ()),
        family=family,
        name=push,
    )
    if private is not None and push is None:
        raise ValueError("--private, --public: go with --push USER/NAME")
    if push is not None:
        check_account(push)  # before the weights are copied
    facts = write(params, directory)
    typer.echo(f"{directory}: {_opens_with(facts, directory)}")
    for note in notes(facts):
        typer.echo(note, err=True)
    if push is not None:
        typer.echo(upload(directory, push, private))


def _opens_with(facts: "Facts", directory: Path) -> str:
    return OPENS_WITH[facts.code].format(place=directory, auto=facts.auto, base=facts.origin.base)
