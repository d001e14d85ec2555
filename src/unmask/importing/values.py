"""Conversions of dLLM-RL's values that need more than pairs; the rows of `table.toml` name them.

Each function takes a value, its file and the section of its key, and returns unmask's value, `NOTHING`
where no line is needed, or a `Loss` where the run would differ.

What ranks the positions (`target`) is a key of its own there and the strategy here, and the denoising steps
of a whole response become those of a block.
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
TASKS = {
    "mmu": "read by mmada and lladav; their SFT trains texts without a template, with a second <image>",
    "code": "its records are read by task.kind = 'json', but programs are asked for and graded otherwise here",
}
STATIC, DYNAMIC = "low_confidence_static", "low_confidence_dynamic"
# What ranks the positions under a static quota.
TARGETS = {
    "confidence": "static",
    "margin_confidence": "margin",
    "neg_entropy": "entropy",
    "random": "random",
}
SCHEDULES = {
    "constant": "constant",
    "constant_with_warmup": "constant",
    "cosine": "cosine",
    "linear": "linear",
}


def same(value: Any, *_: object) -> Any:
    """Return the value as it is."""
    return value


def below_runs(value: Any, *_: object) -> str:
    """Return the directory of a run."""
    return f"runs/{value}"


def known_task(value: Any, source: Source, *_: object) -> Any:
    """Refuse tasks other than mathematics and, of models with images that are no SFT, `mmu`."""
    reads_images = source.base in ("mmada", "lladav") and source.kind != "sft"
    if value == "math" or (value == "mmu" and reads_images):
        return NOTHING
    return Loss(TASKS.get(value, f"must be one of math, {', '.join(TASKS)}"))


def data_file(value: Any, *_: object) -> str:
    """Return the path of a data set."""
    return f"data/{value}.json"


def train_block(value: Any, source: Source, *_: object) -> Any:
    """Return the blocks of training where they are not those of the rollouts."""
    block = source.get("rollout.block_size")
    if value == block:
        return NOTHING
    is_multiple = are_counts(value, block) and value % block == 0
    return value if is_multiple else Loss(f"is no multiple of rollout.block_size = {block!r}")


def canvas_pads(value: Any, *_: object) -> Any:
    """Return one less: the stop token is dLLM-RL's first pad, and unmask always trains it."""
    if value == 0:
        reason = "the stop token is a pad there and is not trained; here it always is"
        return Loss(reason, 0)
    return value - 1 if are_counts(value) else Loss("every pad is trained there, here a number")


def kl_of_sum(value: Any, *_: object) -> Any:
    """Refuse a penalty on the sum of a row's KL terms; here it is on their mean."""
    return value if value == 0 else Loss("a sum over the tokens of a row there, a mean here", value)


def samples_of_images(value: Any, source: Source, section: str) -> Any:
    """Return the responses of MMaDA to a problem with an image: one under a static quota."""
    return 1 if source.get(f"{section}.remasking_strategy") == STATIC else value


def clip(value: Any, *_: object) -> list[Any]:
    """Return the clip range, which is symmetric there."""
    return [value, value]


def clip_and_value_clip(value: Any, source: Source, *_: object) -> dict[str, Any]:
    """Return the clip range and the value model's, which is the same there."""
    return {"loss.clip": clip(value), "advantage.clip": value}


def training_length(value: Any, source: Source, *_: object) -> Any:
    """Refuse a length at which responses would be cut for training."""
    longest = source.get("rollout.max_token", source.get("rollout.max_gen_length"))
    is_cut = are_counts(value, longest) and value < longest
    return (
        Loss(f"responses of up to {longest} tokens are trained whole here") if is_cut else NOTHING
    )


def schedule(value: Any, source: Source, *_: object) -> Any:
    """Return the schedule of the learning rate, unless it falls within each RL step."""
    found = SCHEDULES.get(value, Loss(f"must be one of {', '.join(SCHEDULES)}"))
    falls = found != "constant" and source.get("lr_scheduler.params.min_lr_scale") != 1
    is_repeated = source.kind == "rl" and falls and value in SCHEDULES
    return Loss(ANEW, found) if is_repeated else found


def final_lr_share(value: Any, source: Source, *_: object) -> Any:
    """Return the share of the learning rate at the end, which a constant schedule does not have."""
    is_constant = SCHEDULES.get(source.get("lr_scheduler.scheduler")) == "constant"
    return NOTHING if is_constant else value


def warmup(value: Any, source: Source, *_: object) -> Any:
    """Return the steps of warm-up, of which its constant schedule has none."""
    if source.get("lr_scheduler.scheduler") == "constant":
        return NOTHING
    is_repeated = source.kind == "rl" and value != 0
    return Loss(ANEW, value) if is_repeated else value


def betas(_: Any, source: Source, *__: object) -> list[Any]:
    """Return AdamW's two decay rates."""
    defaults = {"optimizer.params.beta1": 0.9, "optimizer.params.beta2": 0.999}
    return [source.get(name, default) for name, default in defaults.items()]


def batch_size(value: Any, source: Source, *_: object) -> Any:
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
    return Loss(reason, max(1, demonstrations)) if left else demonstrations


def demonstration_pads(value: Any, source: Source, *_: object) -> Any:
    """Refuse trained pads, unless they are the stop token that each demonstration ends in."""
    records = _demonstrations(source)
    if records is None:
        return Loss(f"{PADS}; {_absent(source)}")
    texts = [record.get("response") for record in records if isinstance(record, dict)]
    ends = {str(text).rstrip().endswith(PAD) for text in texts}
    return NOTHING if ends == {value == 1} and value in (0, 1) else Loss(PADS)


def steps_of_epochs(value: Any, source: Source, *_: object) -> Any:
    """Return the optimizer steps of a number of epochs of SFT; its data file is counted."""
    records = _demonstrations(source)
    if records is None:
        return Loss(f"{COUNT}; {_absent(source)}")
    found = batch_size(source.get("training.batch_size_lm"), source)
    batch: Any = found.nearest if isinstance(found, Loss) else found
    if not are_counts(value, batch):
        return Loss(f"{COUNT}, and the batch is not known")
    return value * math.ceil(len(records) / batch)


def full_strategy(value: Any, source: Source, section: str) -> Any:
    """Return the strategy of a full-attention model; under a static quota its target decides."""
    if value == DYNAMIC:
        return "dynamic"
    if value == STATIC:
        return TARGETS.get(str(source.get(f"{section}.target")), "static")
    return Loss(f"samplers of {source.base} take every name but {STATIC} for {DYNAMIC}", "dynamic")


def target(value: Any, source: Source, section: str) -> Any:
    """Refuse another ranking, or a threshold on something else than the confidence."""
    is_static = source.get(f"{section}.remasking_strategy") == STATIC
    if not is_static:
        return NOTHING if value == "confidence" else Loss("the threshold is on the confidence here")
    # Dream's sampler ranks by confidence under any other name.
    is_ranked = value in TARGETS and (source.base, value) != ("dream", "random")
    return NOTHING if is_ranked else Loss(f"no target of a sampler of {source.base}")


def steps_of_block(value: Any, source: Source, section: str) -> Any:
    """Return the denoising steps of a block."""
    if source.get(f"{section}.remasking_strategy") != STATIC:
        return NOTHING
    length, block = (source.get(f"{section}.{key}") for key in ("max_gen_length", "block_size"))
    if not are_counts(value, length, block):
        return value
    blocks = length // block
    if length % block or value % blocks:
        return Loss(f"does not spread evenly over {length} positions in blocks of {block}")
    return value // blocks


def cache(value: Any, source: Source, section: str) -> str:
    """Return the mode of the cache."""
    is_whole = source.get(f"{section}.further_horizon") is None
    return ("prefix" if is_whole else "window") if value else "exact"


def horizon(value: Any, source: Source, section: str) -> Any:
    """Return the width of the cache's window, where the cache is in use."""
    return value if source.get(f"{section}.use_cache") else NOTHING


def are_counts(*values: Any) -> bool:
    """Whether these are whole numbers above 0."""
    return all(type(value) is int and value > 0 for value in values)


def _demonstrations(source: Source) -> list[Any] | None:
    """Return the demonstrations of SFT; None if their file is not below the working directory."""
    path = Path(data_file(source.get("dataset.optimization_data")))
    if not path.is_file():
        return None
    return [record for _, record in read_records(path, "dataset.optimization_data")]


def _absent(source: Source) -> str:
    return f"import it where {data_file(source.get('dataset.optimization_data'), source)} stands"
