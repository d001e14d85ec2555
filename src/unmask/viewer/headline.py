"""The top of the page: what the run is, how far it is, and the few numbers one looks for first."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, cast

from unmask.viewer.numbers import duration, is_number, moment, share, short
from unmask.viewer.reading import RunFiles

KINDS = {
    "rl": "Reinforcement learning",
    "sft": "Supervised fine-tuning",
    "eval": "Evaluation",
    "run": "Run",
}
# Single steps are noisy: a headline number is the mean of so many.
NUM_LAST = 10


@dataclass(frozen=True, slots=True)
class Tile:
    """One number with its name, and what it is to be compared with."""

    name: str
    value: str
    note: str = ""


def title(files: RunFiles) -> str:
    """Return what the run is, in a few words."""
    return f"{KINDS[files.kind]} on {subject(files)}" if subject(files) else KINDS[files.kind]


def subject(files: RunFiles) -> str:
    """Return the task's name, or the file that is imitated; empty if the configuration has neither."""
    task, data = _section(files.config, "task"), _section(files.config, "data")
    return str(task.get("name") or PurePath(str(data.get("path") or "")).name)


def facts(files: RunFiles) -> list[tuple[str, str]]:
    """Return names and values of what identifies the run."""
    run, model = _section(files.config, "run"), _section(files.config, "model")
    found = [("model", model.get("path")), ("seed", run.get("seed")), ("directory", files.path)]
    if files.kind == "eval":
        found.insert(1, ("split", files.config.get("split")))
    if started := files.environment.get("start_time"):
        found.append(("started", moment(started)))
    return [(name, str(value)) for name, value in found if value is not None]


def state(files: RunFiles, is_running: bool) -> str:
    """Return how far the run is: `running`, `finished`, or where it stopped."""
    place = f"step {files.step:,}"
    if files.num_steps is not None:
        place += f" of {files.num_steps:,}"
    if is_running:
        return f"running, {place}" if files.num_steps is not None else "running"
    if files.num_steps is None:
        return "finished" if files.samplings else "no result yet"
    return f"finished, {place}" if files.step >= files.num_steps else f"stopped at {place}"


def tiles(files: RunFiles, is_running: bool) -> list[Tile]:
    """Return the headline numbers, most telling first."""
    found = [*_evaluation(files), *_samplings(files), *_training(files), *_time(files, is_running)]
    return found[:6]


def _evaluation(files: RunFiles) -> Iterator[Tile]:
    measured = [row for row in files.metrics if is_number(row.get("eval_accuracy"))]
    if not measured:
        return
    first, last = measured[0], measured[-1]
    note = f"at step {last['step']:,}"
    low, high = last.get("eval_accuracy_low"), last.get("eval_accuracy_high")
    if is_number(low) and is_number(high):
        note = f"95 %: {share(low)} to {share(high)}"
    if len(measured) > 1:
        note += f"; {share(first['eval_accuracy'])} at step {first['step']:,}"
    yield Tile("held-out accuracy", share(last["eval_accuracy"]), note)


def _samplings(files: RunFiles) -> Iterator[Tile]:
    """Tiles of an evaluation: of one sampling its numbers, of several the accuracy of each."""
    if len(files.samplings) > 1:
        for name, found in files.samplings.items():
            yield from _accuracy(f"accuracy, {name}", found)
    elif files.samplings:
        yield from _sampling(*files.samplings.values())


def _accuracy(label: str, found: Mapping[str, Any]) -> Iterator[Tile]:
    if is_number(accuracy := found.get("accuracy")):
        yield Tile(label, share(accuracy), _between(found.get("ci95"), share))


def _sampling(found: Mapping[str, Any]) -> Iterator[Tile]:
    yield from _accuracy("accuracy", found)
    speed = _section(found, "speed")
    for label, table, name in (
        ("tokens per denoising step", found, "tokens_per_denoising_step"),
        ("tokens per forward", speed, "tokens_per_forward"),
    ):
        if is_number(tokens := table.get(name)):
            yield Tile(label, short(tokens), _between(table.get(f"{name}_ci95"), short))
    if is_number(problems := found.get("n")):
        samples = found.get("samples", 1)
        yield Tile("problems", f"{problems:,}", f"{samples} response{'s'[: samples != 1]} each")
    if is_number(tokens := found.get("response_tokens")):
        yield Tile("response tokens", short(tokens), "mean")
    if is_number(truncated := found.get("truncated")):
        yield Tile("truncated", share(truncated), "ended by max_tokens")


def _training(files: RunFiles) -> Iterator[Tile]:
    rows = (
        ("reward", "reward", short),
        ("tokens_per_denoising_step", "tokens per denoising step", short),
        ("loss", "loss", short),
        ("response_tokens", "response tokens", short),
        ("tokens_per_s", "tokens per second", short),
    )
    for name, label, text in rows:
        if label == "loss" and files.kind == "rl":
            continue  # its size says nothing there
        first, last = _ends(files, name)
        if first is not None and last is not None:
            count = min(NUM_LAST, len(files.metrics))
            note = f"from {text(first)}; means of {count} steps"
            yield Tile(label, text(last), note if len(files.metrics) > count else "")


def _time(files: RunFiles, is_running: bool) -> Iterator[Tile]:
    spent = {"wall": 0.0, "cpu": 0.0}
    for row in files.metrics:
        for name, value in row.items():
            kind = name.removesuffix("_s").rpartition("_")[2]
            if kind in spent and name.endswith(f"_{kind}_s") and is_number(value):
                spent[kind] += value
    if not spent["wall"]:
        return
    note = f"CPU {duration(spent['cpu'])}"
    if is_running and files.num_steps and files.step < files.num_steps:
        left = spent["wall"] / len(files.metrics) * (files.num_steps - files.step)
        note = f"about {duration(left)} to go"
    yield Tile("time in steps", duration(spent["wall"]), note)


def _ends(files: RunFiles, name: str) -> tuple[float | None, float | None]:
    """Mean of a metric over the first and over the last steps that have it."""
    ends: list[float | None] = []
    for rows in (files.metrics, files.metrics[::-1]):
        values: list[float] = []
        for row in rows:
            if is_number(value := row.get(name)):
                values.append(value)
            if len(values) == NUM_LAST:
                break
        ends.append(sum(values) / len(values) if values else None)
    return ends[0], ends[1]


def _between(interval: object, text: Any) -> str:
    match interval:
        case [low, high] if is_number(low) and is_number(high):
            return f"95 %: {text(low)} to {text(high)}"
        case _:
            return ""


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = config.get(name)
    return cast(Mapping[str, Any], value) if isinstance(value, dict) else {}
