"""Runs the published modelling code of a checkpoint in a process of its own and compares its logits.

A checkpoint's directory may hold the code its authors published (`modeling_*.py`, named by `auto_map`
in `config.json`). **Running it executes those files**, so it runs only on request, and in another
process, with which its imports, patches and memory end. That process is offline: only the code in the
directory runs, never code that `auto_map` names elsewhere.

This file is both sides. As a module it writes a job, runs a Python on its own source and compares. As a
program (`python - JOB < reference_code.py`) it loads the model with `transformers` and writes its
logits; that Python needs torch, transformers and safetensors but not `unmask`, because published code
is often written for an older `transformers`. Hence nothing of `unmask` is imported at the top.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unmask.models.families.family import ReferenceArguments
    from unmask.models.spec import ModelSpec

# In this order: where both are named, `AutoModel` may be a backbone without a head.
AUTO_CLASSES = ("AutoModelForCausalLM", "AutoModel")
LOGITS = "logits.safetensors"


class PublishedCodeFailed(RuntimeError):
    """The published code ended without logits; the message is the last line of its stderr."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The differences of the logits of two implementations, on the same texts.

    Attributes:
        largest: greatest absolute difference.
        mean: mean absolute difference.
        std: standard deviation of the published logits, the scale of the differences.
        worst_row: greatest mean absolute difference of one position.
        same_top: share of positions whose most likely token is the same.
        num_rows: positions compared.
    """

    largest: float
    mean: float
    std: float
    worst_row: float
    same_top: float
    num_rows: int


def require_code(directory: Path) -> None:
    """Refuse a directory without published code.

    Raises:
        ValueError: if `auto_map` names no model class, or its file is not there.
    """
    from unmask.json_files import read_object  # here: the child process has no unmask

    config = read_object(directory / "config.json")
    named = config.get("auto_map") or {}
    found = next((named[name] for name in AUTO_CLASSES if name in named), None)
    if found is None:
        raise ValueError(
            f"--published: auto_map in {directory / 'config.json'} names no {AUTO_CLASSES[0]}: "
            "this checkpoint has no modelling code; copy the files of its release here"
        )
    file = directory / f"{found.rpartition('--')[2].partition('.')[0]}.py"
    if "--" in found or not file.is_file():
        raise ValueError(
            f"--published: auto_map names {found}, but {file.name} is not in {directory}; download "
            "it from the checkpoint's page and let auto_map name it without a repository"
        )


@dataclass(frozen=True, slots=True)
class Job:
    """The inputs of the published code.

    Attributes:
        directory: the checkpoint.
        texts: token ids, masks among them.
        spec: names the family, and its block size.
        place: device and number format, as torch spells them.
        python: interpreter that runs it.
    """

    directory: Path
    texts: "Sequence[Sequence[int]]"
    spec: "ModelSpec"
    place: tuple[str, str]
    python: str = sys.executable


def published_logits(job: Job) -> tuple[list[Tensor], str]:
    """Run the published code on texts; this executes the code in the directory.

    Returns:
        Logits `(L, V)` of every text, fp32 or wider on the CPU, and the version of transformers.

    Raises:
        PublishedCodeFailed: if it ends with an error.
    """
    from unmask.models.families import family_named  # here: the child process has no unmask

    device, dtype = job.place
    asked = {
        "directory": str(job.directory.resolve()),
        "texts": [list(text) for text in job.texts],
        "takes": family_named(job.spec.family).reference_arguments,
        "block_size": job.spec.block_size,
        "device": device,
        "dtype": dtype,
    }
    with tempfile.TemporaryDirectory(prefix="unmask-published-") as name:
        file = Path(name) / "job.json"
        file.write_text(json.dumps(asked))
        _run(job.python, file)
        with safe_open(file.with_name(LOGITS), "pt") as logits:
            version = (logits.metadata() or {})["transformers"]
            return [logits.get_tensor(str(index)) for index in range(len(job.texts))], version


def _run(python: str, job: Path) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    # Copies of the code that transformers makes would otherwise stay, and be run again when stale.
    environment = {**os.environ, **offline, "HF_MODULES_CACHE": str(job.parent / "modules")}
    try:
        done = subprocess.run(
            # Through stdin: as a file, its folder would be searched first by the imports of that code.
            [python, "-", str(job)],
            input=Path(__file__).read_text(),
            env=environment,
            cwd=job.parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise ValueError(f"--published-python {python}: {error.strerror}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise PublishedCodeFailed(lines[-1] if lines else f"exit code {done.returncode}")


@torch.no_grad()
def compare(ours: "Sequence[Tensor]", theirs: "Sequence[Tensor]") -> Comparison:
    """Compare logits `(L, V)` of the same texts.

    Raises:
        PublishedCodeFailed: if their shapes differ.
    """
    for a, b in zip(ours, theirs, strict=True):
        if a.shape != b.shape:
            raise PublishedCodeFailed(
                f"its logits have the shape {tuple(b.shape)}, ours {tuple(a.shape)}"
            )
    one, other = (torch.cat([rows.cpu() for rows in logits]) for logits in (ours, theirs))
    apart = (one - other).abs()  # (rows, V)
    return Comparison(
        largest=apart.max().item(),
        mean=apart.mean().item(),
        std=other.std().item(),
        worst_row=apart.mean(-1).max().item(),
        same_top=(one.argmax(-1) == other.argmax(-1)).double().mean().item(),
        num_rows=len(one),
    )


def forward_arguments(
    takes: "ReferenceArguments", length: int, block: int | None, model: Any
) -> dict[str, Any]:
    """Return the arguments of the published `forward` besides a text of `length` tokens."""
    if takes == "none":
        return {}
    if takes == "full":
        return {"attention_mask": "full"}
    if takes == "block_size":
        return {"block_size": block}
    assert block is not None, "a family that takes a mask has blocks"
    blocks = torch.arange(length, device=model.device) // block
    seen = (blocks[None, :] <= blocks[:, None])[None, None]  # (1, 1, query, key)
    positions = torch.arange(length, device=model.device)[None]
    if takes == "seen":
        return {"attention_mask": seen.long(), "position_ids": positions}
    added = torch.zeros(seen.shape, dtype=model.dtype, device=model.device)
    added.masked_fill_(~seen, float("-inf"))
    return {"attention_mask": added, "position_ids": positions}


@torch.no_grad()
def run_job(path: Path) -> None:
    """Load the published model and write its logits; this runs in the other process."""
    import transformers

    job = json.loads(path.read_text())
    version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    key = "dtype" if version >= (4, 56) else "torch_dtype"
    named = json.loads((Path(job["directory"]) / "config.json").read_text())["auto_map"]
    auto = getattr(transformers, next(name for name in AUTO_CLASSES if name in named))
    model = auto.from_pretrained(
        job["directory"],
        local_files_only=True,
        trust_remote_code=True,
        **{key: getattr(torch, job["dtype"])},
    )
    model = model.to(job["device"]).eval()
    logits: dict[str, Tensor] = {}
    for index, text in enumerate(job["texts"]):
        ids = torch.tensor([text], device=model.device)
        more = forward_arguments(job["takes"], len(text), job["block_size"], model)
        row = model(input_ids=ids, **more).logits[0]
        wide = torch.promote_types(row.dtype, torch.float32)
        logits[str(index)] = row.to(wide).cpu().contiguous()
    save_file(logits, path.with_name(LOGITS), metadata={"transformers": transformers.__version__})


if __name__ == "__main__":
    run_job(Path(sys.argv[1]))
