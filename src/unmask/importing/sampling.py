"""What becomes of the keys that say how responses are unmasked: `rollout.*` and `evaluation.*`.

The published sampler of each kind of model is a preset here, and the keys of the file stand above it.
What ranks the positions (`target`) is a key of its own there and the strategy here, and the denoising
steps of a whole response become those of a block.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from unmask.importing.rules import (
    MODELS,
    NOTHING,
    Implied,
    Loss,
    Rule,
    Source,
    idle,
    judged,
    line,
    lost,
    one_of,
    otherwise,
)
from unmask.models.families import families

# The sampler of each `model_base`, as the family's file states it.
_PRESETS = {base: name for f in families() for base, name in f.dllm_rl_presets.items()}
PRESET_OF = {base: _PRESETS[base] for base in MODELS}
# Who reads a section that samples, its name there, and its name here.
SECTIONS = (
    ("rl", "rollout", "sampling"),
    ("rl", "evaluation", "eval.sampling"),
    ("eval by_rollout", "rollout", "sampling"),
    ("eval by_evaluation", "evaluation", "sampling"),
)
STATIC, DYNAMIC = "low_confidence_static", "low_confidence_dynamic"
STRATEGIES = {
    STATIC: "static",
    DYNAMIC: "dynamic",
    "sequential": "left_to_right",
    "entropy_bounded": "entropy_bounded",  # bound and sum are those of the preset
}
# What ranks the positions under a static quota.
TARGETS = {
    "confidence": "static",
    "margin_confidence": "margin",
    "neg_entropy": "entropy",
    "random": "random",
}
MACHINES = "how the work is spread; no result depends on it here"
SPREAD = "of a response there, of a block here"
RANKED = "written into the strategy where that is static"
BOUND = "its engine's, which its scripts leave at 0.35"
EXACT = "its cache is approximate; RL is exact here"
FILTERS = "unmask rl refuses filters: the learner's log-probabilities are over every token"


def sampling_rules(readers: str, section: str, new: str) -> tuple[Rule, ...]:
    """Return the rows of a section that samples."""
    block, full, dream = (f"{readers} {trait}" for trait in ("block", "full", "dream"))
    o, n = f"{section}.", f"{new}."
    ranked = partial(_full_strategy, section=section, new=new)
    return (
        line(readers, o + "temperature", n + "temperature"),
        *_filter_rules(f"{readers} filters", section, new),
        line(block, o + "max_token", n + "max_tokens"),
        line(full, o + "max_gen_length", n + "max_tokens"),
        line(readers, o + "block_size", n + "block_size"),
        line(block, o + "denoising_steps_per_block", n + "denoising_steps"),
        line(full, o + "steps", n + "denoising_steps", SPREAD, partial(_steps, section=section)),
        line(block, o + "remasking_strategy", n + "strategy", "", one_of(STRATEGIES)),
        line(full, o + "remasking_strategy", n + "strategy", "target ranks if static", ranked),
        line(readers, o + "dynamic_threshold", n + "threshold"),
        line(block, o + "eb_threshold", n + "entropy_bound", BOUND),
        judged(full, o + "target", RANKED, partial(_target, section=section)),
        *lost(dream, "positions are ranked here, never drawn", o + "alg_temp", unless=0),
        *lost(dream, "padding is a token like any other", o + "pad_target_penalty", unless=1),
        *_cache_rules(readers, section),
        *idle(full, MACHINES, o + "batch_size"),
        *idle(block, MACHINES, o + "tensor_parallel_size"),
        *idle(readers, "every trajectory keeps its step map", o + "output_unmasking_history"),
    )


def sampling_implied() -> Iterator[Implied]:
    """Yield the preset of each section that samples, for each kind of model."""
    note = "what its sampler does where nothing else is written"
    sections = {"rl": "sampling", "rl measured": "eval.sampling", "eval": "sampling"}
    for readers, new in sections.items():
        for base, name in PRESET_OF.items():
            yield Implied(f"{readers} {base}", f"{new}.preset", name, note)


def _filter_rules(readers: str, section: str, new: str) -> tuple[Rule, ...]:
    """Return the rows of the filters of the drawn tokens, which rollouts of RL have none of."""
    top_p, top_k = f"{section}.top_p", f"{section}.top_k"
    if new == "sampling" and readers.startswith("rl"):
        return *lost(readers, FILTERS, top_p, unless=1), *lost(readers, FILTERS, top_k, unless=0)
    return line(readers, top_p, f"{new}.top_p"), line(readers, top_k, f"{new}.top_k")


def _cache_rules(readers: str, section: str) -> tuple[Rule, ...]:
    """Return the rows of the approximate cache, which RL must do without."""
    used, horizon, full = f"{section}.use_cache", f"{section}.further_horizon", f"{readers} full"
    if readers == "rl":
        return otherwise(full, EXACT, used, horizon)

    def mode(value: Any, source: Source) -> Any:
        return ("prefix" if source.get(horizon) is None else "window") if value else "exact"

    def width(value: Any, source: Source) -> Any:
        return value if source.get(used) else NOTHING

    return (
        line(full, used, "engine.cache", "an approximation, as there", mode),
        line(full, horizon, "engine.horizon", "positions of a window", width),
    )


def _full_strategy(value: Any, source: Source, section: str, new: str) -> Any:
    if value == DYNAMIC:
        return "dynamic"
    if value == STATIC:
        return TARGETS.get(str(source.get(f"{section}.target")), "static")
    reason = f"samplers of {source.base} take every name but {STATIC} for {DYNAMIC}"
    return Loss(reason, {f"{new}.strategy": "dynamic"})


def _target(value: Any, source: Source, section: str) -> Any:
    """Return a loss where positions would be ranked, or held against the threshold, by something else."""
    is_static = source.get(f"{section}.remasking_strategy") == STATIC
    if not is_static:
        return NOTHING if value == "confidence" else Loss("the threshold is on the confidence here")
    # Dream's sampler ranks by confidence under any other name.
    is_ranked = value in TARGETS and (source.base, value) != ("dream", "random")
    return NOTHING if is_ranked else Loss(f"no target of a sampler of {source.base}")


def _steps(value: Any, source: Source, section: str) -> Any:
    """Return the denoising steps of a block."""
    if source.get(f"{section}.remasking_strategy") != STATIC:
        return NOTHING
    length, block = (source.get(f"{section}.{key}") for key in ("max_gen_length", "block_size"))
    if not all(isinstance(number, int) and number > 0 for number in (value, length, block)):
        return value
    blocks = length // block
    if length % block or value % blocks:
        return Loss(f"does not spread evenly over {length} positions in blocks of {block}")
    return value // blocks
