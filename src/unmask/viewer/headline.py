"""The head of the page: what the run is, its progress, and its most important figures."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from unmask.runs.format import format_duration, format_number, format_share
from unmask.runs.read import Record, RunFiles, is_interval, is_number, subtable

KINDS = {
    "rl": "Reinforcement learning",
    "sft": "Supervised fine-tuning",
    "dpo": "Preference optimization",
    "reward-model": "Reward model",
    "eval": "Evaluation",
}
MAX_TILES = 6
# Steps over which a figure of a training run is averaged.
NUM_AVERAGED = 10


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure with its name and a note to compare it with."""

    name: str
    value: str
    note: str = ""


def title(files: RunFiles) -> str:
    """Return kind and task of the run."""
    kind = KINDS.get(files.kind or "", "Run")
    return f"{kind} on {files.task}" if files.task else kind


def facts(files: RunFiles) -> list[tuple[str, str]]:
    """Return names and values that identify the run."""
    run, model = subtable(files.config, "run"), subtable(files.config, "model")
    found = [("model", model.get("path")), ("seed", run.get("seed")), ("directory", files.path)]
    if files.kind == "eval":
        found.insert(1, ("split", files.config.get("split")))
    if start := files.start_time:
        found.append(("started", f"{start:%Y-%m-%d %H:%M %Z}".strip()))
    return [(name, str(value)) for name, value in found if value is not None]


def state(files: RunFiles, is_running: bool) -> str:
    """Return the progress of the run: running, finished or stopped, and the step."""
    if files.num_steps is None:
        ended = "finished" if files.samplings else "no result yet"
        return "running" if is_running else ended
    place = f"step {files.step:,} of {files.num_steps:,}"
    if is_running:
        return f"running, {place}"
    return f"finished, {place}" if files.step >= files.num_steps else f"stopped at {place}"


def tiles(files: RunFiles, is_running: bool) -> list[Tile]:
    """Return the most important figures, most important first."""
    found = [*_held_out(files), *_samplings(files), *_training(files), *_time(files, is_running)]
    return found[:MAX_TILES]


def _held_out(files: RunFiles) -> Iterator[Tile]:
    measured = [row for row in files.metrics if is_number(row.get("eval_accuracy"))]
    if not measured:
        return
    first, last = measured[0], measured[-1]
    interval = [last.get("eval_accuracy_low"), last.get("eval_accuracy_high")]
    note = "; ".join(filter(None, (f"step {last['step']:,}", _interval(interval, format_share))))
    if len(measured) > 1:
        note += f"; {format_share(first['eval_accuracy'])} at step {first['step']:,}"
    yield Tile("held-out accuracy", format_share(last["eval_accuracy"]), note)


def _samplings(files: RunFiles) -> Iterator[Tile]:
    """Yield the figures of an evaluation; the accuracies only if it has several samplings."""
    if len(files.samplings) > 1:
        for name, found in files.samplings.items():
            yield from _tile(f"accuracy, {name}", found, "accuracy", "ci95", format_share)
        return
    for found in files.samplings.values():
        yield from _tile("accuracy", found, "accuracy", "ci95", format_share)
        for table, name in (
            (found, "tokens_per_denoising_step"),
            (subtable(found, "speed"), "tokens_per_forward"),
        ):
            yield from _tile(name.replace("_", " "), table, name, f"{name}_ci95")
        if is_number(problems := found.get("n")):
            samples = found.get("samples", 1)
            yield Tile("problems", f"{problems:,}", f"{samples} response{'s'[: samples != 1]} each")
        if is_number(tokens := found.get("response_tokens")):
            yield Tile("response tokens", format_number(tokens), "mean")
        if is_number(truncated := found.get("truncated")):
            yield Tile("truncated", format_share(truncated), "ended by max_tokens")


def _tile(
    label: str,
    table: Record,
    name: str,
    interval: str,
    text: Callable[[float], str] = format_number,
) -> Iterator[Tile]:
    if is_number(value := table.get(name)):
        yield Tile(label, text(value), _interval(table.get(interval), text))


def _interval(interval: object, text: Callable[[float], str]) -> str:
    """Return a 95 % interval as text; empty if it is missing."""
    if not is_interval(interval):
        return ""
    return f"95 %: {text(interval[0])} to {text(interval[1])}"


def _training(files: RunFiles) -> Iterator[Tile]:
    rows = {
        "reward": "reward",
        "tokens_per_denoising_step": "tokens per denoising step",
        "loss": "loss",
        "response_tokens": "response tokens",
        "tokens_per_s": "tokens per second",
    }
    if files.kind == "rl":
        del rows["loss"]  # sign and size of an RL loss carry little information
    for name, label in rows.items():
        values = [row[name] for row in files.metrics if is_number(row.get(name))]
        if values:
            first, last = values[:NUM_AVERAGED], values[-NUM_AVERAGED:]
            mean, before = sum(last) / len(last), format_number(sum(first) / len(first))
            note = f"mean of the last {len(last)} steps; {before} of the first"
            is_long = len(files.metrics) > NUM_AVERAGED
            yield Tile(label, format_number(mean), note if is_long else "")


def _time(files: RunFiles, is_running: bool) -> Iterator[Tile]:
    if not files.metrics or not files.wall_s:
        return
    note = f"CPU {format_duration(sum(times.cpu for times in files.stages.values()))}"
    if is_running and files.num_steps and files.step < files.num_steps:
        left_s = files.wall_s / len(files.metrics) * (files.num_steps - files.step)
        note = f"about {format_duration(left_s)} to go"
    yield Tile("time in steps", format_duration(files.wall_s), note)
