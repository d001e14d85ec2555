"""Conversions of dLLM-RL's values that need more than a table.

Each function takes a value and its file, and returns unmask's value, `NOTHING` where no line is needed, or
a `Loss` where the run would differ.
"""

import math
from pathlib import Path
from typing import Any

from unmask.importing.rules import NOTHING, Loss, Source
from unmask.json_files import read_records

ANEW = "it begins anew at every RL step there, and once per run here"
COUNT = "steps = epochs * demonstrations / batch"
PAD = "<|endoftext|>"
PADS = (
    f"each demonstration trains its first so many {PAD} there, and here all that stand in its text"
)
SCHEDULES = {
    "constant": "constant",
    "constant_with_warmup": "constant",
    "cosine": "cosine",
    "linear": "linear",
}


def data_file(value: Any, _: Source) -> str:
    """Return the path of a data set."""
    return f"data/{value}.json"


def train_block(value: Any, source: Source) -> Any:
    """Return the blocks of training where they are not those of the rollouts."""
    block = source.get("rollout.block_size")
    if value == block:
        return NOTHING
    is_multiple = are_counts(value, block) and value % block == 0
    return value if is_multiple else Loss(f"is no multiple of rollout.block_size = {block!r}")


def canvas_pads(value: Any, _: Source) -> Any:
    """Return one less: the stop token is dLLM-RL's first pad, and unmask always trains it."""
    if value == 0:
        reason = "the stop token is a pad there and is not trained; here it always is"
        return Loss(reason, {"views.post_num": 0})
    return value - 1 if are_counts(value) else Loss("every pad is trained there, here a number")


def clip(value: Any, _: Source) -> list[Any]:
    """Return the clip range, which is symmetric there."""
    return [value, value]


def clip_and_value_clip(value: Any, source: Source) -> dict[str, Any]:
    """Return the clip range and the value model's, which is the same there."""
    return {"loss.clip": clip(value, source), "advantage.clip": value}


def training_length(value: Any, source: Source) -> Any:
    """Refuse a length at which responses would be cut for training."""
    longest = source.get("rollout.max_token", source.get("rollout.max_gen_length"))
    is_cut = are_counts(value, longest) and value < longest
    return (
        Loss(f"responses of up to {longest} tokens are trained whole here") if is_cut else NOTHING
    )


def schedule(value: Any, source: Source) -> Any:
    """Return the schedule of the learning rate, unless it falls within each RL step."""
    found = SCHEDULES.get(value, Loss(f"must be one of {', '.join(SCHEDULES)}"))
    falls = found != "constant" and source.get("lr_scheduler.params.min_lr_scale") != 1
    is_repeated = source.kind == "rl" and falls and value in SCHEDULES
    return Loss(ANEW, {"optimizer.schedule": found}) if is_repeated else found


def final_lr_share(value: Any, source: Source) -> Any:
    """Return the share of the learning rate at the end, which a constant schedule does not have."""
    is_constant = SCHEDULES.get(source.get("lr_scheduler.scheduler")) == "constant"
    return NOTHING if is_constant else value


def warmup(value: Any, source: Source) -> Any:
    """Return the steps of warm-up, of which its constant schedule has none."""
    if source.get("lr_scheduler.scheduler") == "constant":
        return NOTHING
    is_repeated = source.kind == "rl" and value != 0
    return Loss(ANEW, {"optimizer.warmup_steps": value}) if is_repeated else value


def betas(_: Any, source: Source) -> list[Any]:
    """Return AdamW's two decay rates."""
    defaults = {"optimizer.params.beta1": 0.9, "optimizer.params.beta2": 0.999}
    return [source.get(name, default) for name, default in defaults.items()]


def batch_size(value: Any, source: Source) -> Any:
    """Return the demonstrations of an optimizer step of SFT, on all devices."""
    if source.devices is None:
        return Loss("counts the rows of one device: say how many it ran on, --devices N")
    names = ("training.gradient_accumulation_steps", "training.mask_times_per_sample")
    accumulated, views = (source.get(name, 1) for name in names)
    views = views if "full" in source.traits else 1
    if not are_counts(value, accumulated, views):
        return Loss(f"with {names[0]} = {accumulated!r} the number of rows is not known")
    demonstrations, left = divmod(value * accumulated * source.devices, views)
    reason = f"a step holds no whole number of demonstrations, which have {views} rows each"
    return Loss(reason, {"data.batch_size": max(1, demonstrations)}) if left else demonstrations


def demonstration_pads(value: Any, source: Source) -> Any:
    """Refuse trained pads, unless they are the stop token that each demonstration ends in."""
    records = _demonstrations(source)
    if records is None:
        return Loss(f"{PADS}; {_absent(source)}")
    texts = [record.get("response") for record in records if isinstance(record, dict)]
    ends = {str(text).rstrip().endswith(PAD) for text in texts}
    return NOTHING if ends == {value == 1} and value in (0, 1) else Loss(PADS)


def steps_of_epochs(value: Any, source: Source) -> Any:
    """Return the optimizer steps of so many epochs of SFT, counted where its data stand."""
    records = _demonstrations(source)
    if records is None:
        return Loss(f"{COUNT}; {_absent(source)}")
    found = batch_size(source.get("training.batch_size_lm"), source)
    batch: Any = found.instead.get("data.batch_size") if isinstance(found, Loss) else found
    if not are_counts(value, batch):
        return Loss(f"{COUNT}, and the batch is not known")
    return value * math.ceil(len(records) / batch)


def are_counts(*values: Any) -> bool:
    """Whether these are whole numbers above 0."""
    return all(type(value) is int and value > 0 for value in values)


def _demonstrations(source: Source) -> list[Any] | None:
    """Return the demonstrations of SFT where their file stands below the working directory."""
    path = Path(data_file(source.get("dataset.optimization_data"), source))
    if not path.is_file():
        return None
    return [record for _, record in read_records(path, "dataset.optimization_data")]


def _absent(source: Source) -> str:
    return f"import it where {data_file(source.get('dataset.optimization_data'), source)} stands"
