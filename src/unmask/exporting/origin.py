"""Finds what is exported and what it was made from: its run, the runs before it, the model on the Hub.

A run names its start in `model.path`. Where that is the model of another run, the runs are a chain. It ends at a
model on the Hub, at what `unmask convert` made of one, or at a directory whose origin is not recorded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.checkpoints.checkpoint import CONVERTED_FROM, find_checkpoint
from unmask.models.families.json_keys import read_optional
from unmask.runs.read import RunFiles, is_run, read_run, subtable

# Folders of a run that hold its model.
MODELS = ("model", "best")
ADAPTER = "adapter"
MOST_RUNS = 16


@dataclass(frozen=True, slots=True)
class Origin:
    """A model and its past.

    Attributes:
        model: directory of the checkpoint.
        adapter: directory of the adapters that the run trained, if the run itself was named and trained any.
        runs: the runs that made it, the last one first; empty where none did.
        base: model on the Hub that the first of them started from; `None` where that is not recorded.
        licence: licence that the card of that model states; `None` where no card is at hand.
        family: family that the last run names; `None` for one of this package.
    """

    model: Path
    adapter: Path | None
    runs: Sequence[RunFiles]
    base: str | None
    licence: str | None
    family: str | None


def find_origin(place: str, base: str | None = None) -> Origin:
    """Return the model at a place and its past.

    Args:
        place: a run, the directory of a model, or a hub id.
        base: model on the Hub that it was made from; found in the runs by default.

    Raises:
        ValueError: if there is no model, naming the place and what to give.
    """
    path, adapter = Path(place), None
    if is_run(path):
        runs = _chain(path)
        model = _model_of(runs[0])
        adapter = path / ADAPTER if (path / ADAPTER).is_dir() else None
    else:
        model = find_checkpoint(place)
        runs = _chain(model.parent) if model.name in MODELS else []
    start = str(subtable(runs[-1].config, "model").get("path")) if runs else place
    base = base or _hub_model(start)
    return Origin(
        model=model,
        adapter=adapter,
        runs=runs,
        base=base,
        licence=_licence(base, Path(start)),
        family=subtable(runs[0].config, "model").get("family") if runs else None,
    )


def _model_of(run: RunFiles) -> Path:
    start = subtable(run.config, "model").get("path")
    if run.kind == "eval":
        raise ValueError(
            f"{run.path}: an evaluation holds no model; export the model it measured, {start}"
        )
    if not (run.path / MODELS[0] / "config.json").is_file():
        raise ValueError(
            f"{run.path}: has no {MODELS[0]}/, which a run writes at its end; finish it by --resume, or name the "
            "directory of a model"
        )
    return run.path / MODELS[0]


def _chain(path: Path) -> list[RunFiles]:
    """Return the run at a path and those before it, the last one first."""
    runs: list[RunFiles] = []
    while is_run(path) and len(runs) < MOST_RUNS:
        runs.append(read_run(path))
        start = Path(str(subtable(runs[-1].config, "model").get("path")))
        if start.name not in MODELS:
            break
        path = start.parent
    return runs


def _hub_model(start: str) -> str | None:
    """Return the model on the Hub that a start is or was converted from."""
    if Path(start).is_dir():
        converted = read_optional(Path(start) / "config.json").get(CONVERTED_FROM)
        return converted if isinstance(converted, str) else None
    return start if start.count("/") == 1 and not start.startswith(("/", ".")) else None


def _licence(base: str | None, start: Path) -> str | None:
    """Return the licence that a card at hand states: next to the start's weights, or in the Hub's cache."""
    from huggingface_hub import ModelCard, try_to_load_from_cache

    cached = try_to_load_from_cache(base, "README.md") if base else None
    for card in (start / "README.md", cached):
        if isinstance(card, str | Path) and Path(card).is_file():
            stated = ModelCard.load(card, ignore_metadata_errors=True).data.get("license")
            if isinstance(stated, str):
                return stated
    return None
