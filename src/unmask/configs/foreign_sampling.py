"""How dLLM-RL says how responses are unmasked, in our keys: a part of `unmask config import`.

Its sampler for each model is a preset of ours; the keys of the file stand above it. What ranks the
slots (`target`) is a key of its own there and the strategy here, and the denoising steps of a whole
response become those of a block.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["sft", "rl", "eval"]
Convert = Callable[[Any], Any]

BLOCK_MODELS = ("sdar", "trado")
# What can be measured already, and the preset that says how its sampler for each model differs.
PRESET_OF = {
    "sdar": "dllm_rl_jetengine",
    "trado": "dllm_rl_jetengine",
    "llada": "llada_official",
    "mmada": "mmada_official",
    "dream": "dream_official",
}
# What ranks the slots under a static quota; there a key of its own, here the strategy.
STRATEGY_OF_TARGET = {"margin_confidence": "margin", "neg_entropy": "entropy", "random": "random"}
ONE_DEVICE = "one process and one device so far"


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of one key of dLLM-RL.

    Attributes:
        old: dotted key there.
        new: dotted keys here that get its value; none where it has no counterpart.
        note: what changes, or why there is no counterpart.
        convert: its value to ours.
    """

    old: str
    new: tuple[str, ...] = ()
    note: str = ""
    convert: Convert = field(default=lambda value: value)


def number(value: Any) -> Any:
    """Read `1e-6`, which YAML 1.1 takes for a text and OmegaConf for a number."""
    if isinstance(value, bool) or not isinstance(value, str):
        return value
    return float(value)


def first(value: Any) -> Any:
    """Return the first of a list: its evaluations go one after the other."""
    return value[0] if isinstance(value, list) and value else value


def strategy_of(value: Any) -> Any:
    """Return our name of a `remasking_strategy`."""
    name = str(first(value)).removeprefix("low_confidence_")
    return {"sequential": "left_to_right"}.get(name, name)


def sampling_rules(old: str, new: str) -> tuple[Rule, ...]:
    """Return the rules of a section that says how responses are unmasked."""
    parallel = "how its samplers go in batches; no result depends on it here"
    return (
        Rule(f"{old}.temperature", (f"{new}.temperature",), "", number),
        Rule(f"{old}.top_p", (f"{new}.top_p",), "", number),
        Rule(f"{old}.top_k", (f"{new}.top_k",), "", first),
        Rule(f"{old}.max_token", (f"{new}.max_tokens",)),
        Rule(f"{old}.block_size", (f"{new}.block_size",), "", first),
        Rule(f"{old}.denoising_steps_per_block", (f"{new}.denoising_steps",)),
        Rule(f"{old}.remasking_strategy", (f"{new}.strategy",), "", strategy_of),
        Rule(f"{old}.dynamic_threshold", (f"{new}.threshold",), "", number),
        Rule(f"{old}.max_gen_length", (f"{new}.max_tokens",), "of its full-attention models"),
        Rule(f"{old}.steps", (), f"of a whole response; written per block: {new}.denoising_steps"),
        Rule(f"{old}.alg_temp", (), "slots are ranked, not drawn, unless the strategy is random"),
        Rule(f"{old}.pad_target_penalty", (), "padding is a token like any other"),
        Rule(f"{old}.target", (), f"written into {new}.strategy where that is static"),
        Rule(
            f"{old}.further_horizon", (), "its cache is approximate; nothing is approximated here"
        ),
        Rule(f"{old}.use_cache", (), "the cache is exact here and always on"),
        Rule(f"{old}.batch_size", (), parallel),
        Rule(f"{old}.tensor_parallel_size", (), ONE_DEVICE),
        Rule(f"{old}.start_with_think", (), "write the opening into task.template"),
        Rule(f"{old}.output_unmasking_history", (), "every trajectory keeps its step map"),
        Rule(f"{old}.stop_token_list", (), f"texts there, ids here: set {new}.stop_token_ids"),
    )


def model_base(old: Mapping[str, Any]) -> str:
    """Return which kind of model a flattened file is for."""
    return str(old.get("model.model_base") or old.get("model_base") or BLOCK_MODELS[0])


def with_target(name: str, value: Any, old: Mapping[str, Any]) -> Any:
    """Write what ranks the slots into a static strategy."""
    section, _, key = name.rpartition(".")
    target = STRATEGY_OF_TARGET.get(str(first(old.get(f"{section}.target"))))
    if key != "remasking_strategy" or not target or strategy_of(value) != "static":
        return value
    return [target, *value[1:]] if isinstance(value, list) else target


def sampling_lines(old: Mapping[str, Any], kind: Kind) -> list[tuple[str, Any, str]]:
    """Return the preset of each section that samples, and its denoising steps of a block."""
    found: list[tuple[str, Any, str]] = []
    sections = {"rl": {"rollout": "sampling", "evaluation": "eval.sampling"}, "sft": {}}
    for section, new in sections.get(kind, {"rollout": "sampling"}).items():
        if f"{section}.remasking_strategy" not in old:
            continue
        name = PRESET_OF.get(model_base(old))
        if name:
            remark = "without a key there: what its sampler does where nothing else is written"
            found.append((f"{new}.preset", name, remark))
        keys = [f"{section}.{key}" for key in ("steps", "max_gen_length", "block_size")]
        steps, length, block = (first(old.get(key)) for key in keys)
        if all(isinstance(value, int) and value > 0 for value in (steps, length, block)):
            per_block = max(1, steps // max(1, length // block))
            found.append((f"{new}.denoising_steps", per_block, f"{', '.join(keys)}: per block"))
    return found
