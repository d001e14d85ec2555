"""`unmask plan`: the memory and the time of a run, before it starts."""

import json
from typing import Annotated

import typer

from unmask.cli.options import kind_of, load

app = typer.Typer()

RESPONSE, PROMPT, PER_PASS = 512, 256, 1.5


@app.command(
    no_args_is_help=True,
    epilog="Examples: unmask plan configs/rl/gsm8k.toml --devices 64 --device h100; "
    "unmask plan sft mine.toml model.path=JetLM/SDAR-8B-Chat --devices 8 --json",
)
def plan(  # noqa: PLR0913 - one argument per option
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="sft|rl|CONFIG|KEY=VALUE",
            help="As for `sft` and `rl`. The kind is the first word, or the folder of the first file. Of the "
            "model only config.json is read; names of SDAR, TraDo, LLaDA and Dream models need no file.",
            show_default=False,
        ),
    ],
    devices: Annotated[int, typer.Option(help="Number of devices.")] = 1,
    device: Annotated[
        str, typer.Option(help="h100, h200, a100, b200, or cpu: this machine's, measured.")
    ] = "h100",
    prompt_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens of a prompt, on average.")
    ] = PROMPT,
    response_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Tokens of a response, on average; sampling.max_tokens in RL and {RESPONSE} in SFT by default.",
        ),
    ] = None,
    tokens_per_pass: Annotated[
        float,
        typer.Option(min=0.1, help="Tokens that a denoising step reveals of a block, on average."),
    ] = PER_PASS,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Predict memory, tokens per second and step time of a run, and what would make it fit."""
    name, rest = kind_of(words, "plan")
    if name not in ("sft", "rl"):
        raise ValueError("plan: give a configuration of sft or rl")
    if devices < 1:
        raise ValueError(f"--devices {devices}: must be at least 1")
    from unmask.configs.rl import RLConfig
    from unmask.configs.sft import SFTConfig

    config, _ = load(RLConfig, rest) if name == "rl" else load(SFTConfig, rest)
    from unmask.planning.devices import device_named
    from unmask.planning.job import Lengths
    from unmask.planning.plan import Case, spec_of
    from unmask.planning.remedies import remedies
    from unmask.planning.report import report, to_dict

    longest = config.sampling.max_tokens if isinstance(config, RLConfig) else RESPONSE
    lengths = Lengths(prompt_tokens, response_tokens or longest, tokens_per_pass)
    place = device_named(device, config.run.threads)
    case = Case(config, spec_of(config), place, devices, lengths)
    found = case.plan(), remedies(case)
    typer.echo(json.dumps(to_dict(case, *found), indent=2) if as_json else report(case, *found))
