"""The commands about checkpoints: `unmask convert | init | inspect | verify`.

`cli/main.py` takes over the commands registered here. Each reads its arguments, calls one function of
`checkpoints` or `acceptance` and prints the result; heavy imports stand inside the commands.

`inspect` ends with exit code 2 for a checkpoint that does not load, as every user error does, and
`verify` with 1 if a check failed.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from unmask.cli.options import Device, FamilyName, ModelPath

if TYPE_CHECKING:
    from unmask.checkpoints.inspect import Inspection
    from unmask.models.spec import ModelSpec

DOES_NOT_LOAD = 2
CHECK_FAILED = 1

app = typer.Typer()

AsJson = Annotated[bool, typer.Option("--json", help="Print everything as JSON.")]


@app.command(
    no_args_is_help=True,
    epilog="Examples: unmask convert Qwen/Qwen3-0.6B-Base start --to sdar --block-size 8; "
    "unmask convert SmolLM2-135M-Instruct.Q4_1.gguf start --to sdar",
)
def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A Qwen2, Qwen2.5, Qwen3 or Llama model: directory, hub id or GGUF file.",
        ),
    ],
    destination: Annotated[
        Path, typer.Argument(metavar="DESTINATION", help="Where it is written: new, or empty.")
    ],
    to: Annotated[
        str,
        typer.Option(
            help="sdar: block-causal. dream: full attention, row i predicts token i + 1. autoregressive: "
            "a GGUF file as the checkpoint that it was made from."
        ),
    ],
    block_size: Annotated[
        int | None, typer.Option(help="Positions of a diffusion block, for sdar; 4 by default.")
    ] = None,
    mask_id: Annotated[
        int | None,
        typer.Option(help="Token id that masks; by default the first that is not in use."),
    ] = None,
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16"] | None,
        typer.Option(
            help="Number format of a GGUF file's weights; float32 by default, which is exact."
        ),
    ] = None,
) -> None:
    """Turn an autoregressive checkpoint into a diffusion checkpoint to train from."""
    import torch

    from unmask.checkpoints import convert as conversion

    wanted = None if dtype is None else getattr(torch, dtype)
    if to == conversion.AUTOREGRESSIVE:
        conversion.unpack_gguf(source, destination, wanted)
        typer.echo(f"{destination}: the checkpoint that {source} was made from")
        return
    done = conversion.convert(source, destination, to, block_size, mask_id, wanted)
    spec = done.spec
    spelled = "" if done.mask_text is None else f" {done.mask_text!r}"
    typer.echo(f"{destination}: {spec.family}, {_pattern(spec)}")
    rows = "a spare row" if not done.num_appended else f"{done.num_appended} new at the end"
    typer.echo(f"mask token {spec.mask_id}{spelled}; its row, {rows}, is the mean of the others")
    if done.only_here:
        typer.echo(
            f"loads here only; the code published for {to} lacks " + " and ".join(done.only_here)
        )
    typer.echo("train it before use: its weights still are those of its source")


@app.command(
    no_args_is_help=True, epilog="Example: unmask init fresh --family sdar --size tiny --seed 3"
)
def init(
    destination: Annotated[
        Path, typer.Argument(metavar="DESTINATION", help="Where it is written: new, or empty.")
    ],
    family: Annotated[
        str, typer.Option(help="sdar, dream, llada, ... or module:OBJECT; a wrong one lists all.")
    ],
    size: Annotated[str, typer.Option(help="tiny, small or medium.")] = "tiny",
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same weights.")] = 0,
    alphabet: Annotated[
        str | None,
        typer.Option(help="One token per character of it; one per byte when not given."),
    ] = None,
) -> None:
    """Make a random model of a family, with a tokenizer, to try things on or to train from nothing."""
    from unmask.checkpoints import random_init
    from unmask.checkpoints.memory import count_parameters

    model = random_init.init(destination, family, size, seed, alphabet)
    typer.echo(f"{destination}: {model.spec.family}, {_pattern(model.spec)}")
    typer.echo(f"{_parameters(*count_parameters(model))}, {model.spec.vocab_size} token ids")


@app.command(
    no_args_is_help=True,
    epilog="Examples: unmask inspect runs/quickstart/rl/model; "
    "unmask inspect JetLM/SDAR-1.7B-Chat --json",
)
def inspect(
    model: ModelPath,
    tokens: Annotated[
        int | None,
        typer.Option(
            help="Tokens in the cache when served; the model's greatest length by default."
        ),
    ] = None,
    as_json: AsJson = False,
    family: FamilyName = None,
) -> None:
    """Describe a checkpoint, its memory and the errors of loading it; exit code 2 if it does not load.

    Reads headers only: no weight is loaded.
    """
    from unmask.checkpoints.inspect import inspect_checkpoint

    found = inspect_checkpoint(model, tokens, family)
    typer.echo(json.dumps(found.to_dict(), indent=2) if as_json else _report(found))
    if not found.loads:
        raise typer.Exit(DOES_NOT_LOAD)


@app.command(
    no_args_is_help=True,
    epilog="Examples: unmask verify runs/quickstart/rl/model; "
    "unmask verify JetLM/SDAR-1.7B-Chat --published --dtype float32 --out verify.txt",
)
def verify(  # noqa: PLR0913 - one argument per option
    model: ModelPath,
    device: Device = "auto",
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float64"],
        typer.Option(help="Number format; auto is float32 on CPU and bfloat16 on CUDA."),
    ] = "auto",
    max_tokens: Annotated[int, typer.Option(help="Most tokens of a compared response.")] = 32,
    preset: Annotated[
        str | None, typer.Option(help="Published sampler; the family's own by default.")
    ] = None,
    mask_id: Annotated[
        int | None, typer.Option(help="Mask token id; found in the checkpoint by default.")
    ] = None,
    block_size: Annotated[
        int | None, typer.Option(help="Positions of a block; found in the checkpoint by default.")
    ] = None,
    family: FamilyName = None,
    published: Annotated[
        bool,
        typer.Option(
            "--published",
            help="Compare with the modelling code in MODEL. This EXECUTES that code, which others "
            "wrote, with your rights: only for checkpoints you trust.",
        ),
    ] = False,
    published_python: Annotated[
        str | None,
        typer.Option(
            help="Python that runs the published code, if it needs another transformers; this one by "
            "default."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the report to this file as well.")] = None,
    as_json: AsJson = False,
) -> None:
    """Load a model and check it; exit code 1 if a check failed.

    Prints a short table without paths or prompts of yours, made to be pasted into an issue.
    """
    if published_python is not None and not published:
        raise ValueError(f"--published-python {published_python}: goes with --published")
    if out is not None and not out.absolute().parent.is_dir():
        raise ValueError(f"--out {out}: no such directory")  # now, not after minutes of work
    from unmask.acceptance.verify import VerifyParams, verify
    from unmask.configs.model import ModelConfig
    from unmask.runs.files import write_text

    config = ModelConfig(
        path=model,
        device=device,
        dtype=dtype,
        mask_id=mask_id,
        block_size=block_size,
        family=family,
    )
    python = (published_python or sys.executable) if published else None
    report = verify(VerifyParams(config, max_tokens, preset, python))
    text = json.dumps(asdict(report), indent=2) if as_json else report.text()
    typer.echo(text)
    if out is not None:
        write_text(out, f"{text}\n")
    if not report.passed:
        raise typer.Exit(CHECK_FAILED)


def _report(found: "Inspection") -> str:
    """Return tables: what it is, its memory, and why it does not load."""
    from unmask.checkpoints.memory import DEVICES
    from unmask.runs.text_table import align

    parts = [align(_facts(found))]
    if found.memory:
        head = ("memory", "weights", "cache/token", "tokens", "to serve")
        rows = [
            (*head, *(f"to train on {n}" for n in DEVICES)),
            *(
                (
                    m.dtype,
                    *map(in_units, (m.weights, m.cache_per_token)),
                    str(m.num_tokens),
                    *map(in_units, (m.serving, *m.training)),
                )
                for m in found.memory
            ),
        ]
        table = align(rows, right=tuple(range(1, len(rows[0]))))
        parts.append(f"{table}\ntraining with AdamW, on each device; activations come on top")
    parts += [f"warning: {line}" for line in found.warnings]
    parts += [f"ERROR: {line}" for line in found.errors]
    parts.append("It loads." if found.loads else "It does not load: see the lines marked ERROR.")
    return "\n\n".join(parts)


def _facts(found: "Inspection") -> list[tuple[str, str]]:
    rows = [("path", found.path)]
    if (spec := found.spec) is not None:
        assert found.num_parameters is not None and found.num_active is not None
        parts = [
            f"{spec.num_layers} of width {spec.width}",
            f"{spec.num_heads} heads of {spec.head_width} on {spec.num_kv_heads} of keys and values",
            f"feed-forward {spec.ffn_width}",
            *(["biases"] if spec.has_qkv_bias else []),
            *(["normed queries and keys"] if spec.has_qk_norm else []),
            *(["tied head"] if spec.is_tied else []),
        ]
        rows += [
            ("family", spec.family),
            ("pattern", _pattern(spec)),
            ("parameters", _parameters(found.num_parameters, found.num_active)),
            ("layers", ", ".join(parts)),
        ]
        if (moe := spec.moe) is not None:
            of = f"{moe.num_experts} of width {moe.width}, {moe.num_active} per token"
            rows.append(("experts", f"{of}, in {len(moe.layers)} layers, {moe.router}"))
        if (vision := spec.vision) is not None:
            tower, side = vision.tower, vision.tower.image_size
            of = f"a tower of {tower.num_layers} layers of width {tower.width}"
            count = vision.num_vectors(side, side)
            rows.append(("images", f"{of}; {count} vectors for {side} x {side} pixels"))
        eos = ", ".join(map(str, spec.eos_ids)) or "none"
        rows += [
            ("positions", f"{spec.max_length}, rotary base {spec.rope_theta:g}"),
            ("vocabulary", f"{spec.vocab_size} rows; mask id {spec.mask_id}, eos ids {eos}"),
        ]
    if found.num_token_ids is None:
        rows.append(("tokenizer", "none"))
    else:
        template = "a chat template" if found.has_chat_template else "no chat template"
        rows.append(("tokenizer", f"{found.num_token_ids} ids, {template}"))
    held = ", ".join(f"{count:,} {dtype}" for dtype, count in sorted(found.stored.items()))
    rows.append(("files", f"{found.num_files} of weights, {in_units(found.stored_bytes)}; {held}"))
    rows.append(("number format", f"stated: {found.stated_dtype or 'none'}"))
    return rows


def _pattern(spec: "ModelSpec") -> str:
    block = f", blocks of {spec.block_size}" if spec.block_size else ""
    shift = "row i predicts token i + 1" if spec.is_shifted else "row i predicts token i"
    return f"{spec.attention.replace('_', '-')} attention{block}; {shift}"


def _parameters(total: int, active: int) -> str:
    return f"{total:,} parameters" + (f", {active:,} of them per token" if active < total else "")


def in_units(num_bytes: int) -> str:
    """Return bytes in the largest unit that leaves at least one of it."""
    size, unit = float(num_bytes), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
