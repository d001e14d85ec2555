"""A dLLM-RL configuration in our keys: `unmask config import FILE.yaml`.

Every key of the file ends in exactly one of two places: a line of ours with the key it came from
behind it, or a comment that names it and says why it has no line. Nothing is dropped, and a key
this table has never heard of is said to be unknown. What dLLM-RL does without a key of its own
(its curriculum, its normalisation, AdamW's second decay rate) becomes a line as well wherever our
default is another, so that the translated run does what the original did.

The tables below are the whole translation; `docs/coming-from-dllm-rl.md` is tested against them.
Keys are dotted; a key `section.*` stands for all keys below it that are not listed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unmask.configs.foreign_sampling import (
    BLOCK_MODELS,
    ONE_DEVICE,
    PRESET_OF,
    Kind,
    Rule,
    first,
    model_base,
    number,
    sampling_lines,
    sampling_rules,
    with_target,
)
from unmask.configs.keys import to_toml
from unmask.configs.load import flatten

REFERENCE = re.compile(r"\$\{([\w.]+)\}")


@dataclass(frozen=True, slots=True)
class Implied:
    """A line that stands for what dLLM-RL does without a key; only with the key `when`, if named."""

    new: str
    value: Any
    note: str
    when: str = ""


def _data_file(value: Any) -> str:
    return f"data/{first(value)}.json"


def _method(value: Any) -> str:
    found = str(value).lower()
    return {"tracerl": "trace", "random_masking": "random"}.get(found, found)


def _estimator(value: Any) -> str:
    return "k3" if value else "k1"


def _extraction(value: Any) -> str:
    return "boxed" if value else "anywhere"


def _model_dtype(value: Any) -> str:
    return {"no": "float32", "fp32": "float32"}.get(str(value), "auto")


NO_JUDGE = "write a [[reward]] table of kind process (docs/rewards.md)"
NO_IMAGES = "text only so far"
NO_EFFECT = "it has no effect in dLLM-RL either"
NOT_STARTED = "no processes are started on other machines, and no environment is changed"

EVERYWHERE = (
    Rule("experiment.project", ("run.dir",), "below runs/", lambda v: f"runs/{v}"),
    Rule("experiment.function", (), "the command says it: unmask rl, unmask eval"),
    Rule(
        "experiment.start_from_scratch", (), "a run starts in an empty directory; --resume goes on"
    ),
    Rule("experiment.current_epoch", (), "a run knows its own step"),
    Rule("experiment.num_node", (), ONE_DEVICE),
    Rule("experiment.node_index", (), ONE_DEVICE),
    Rule("experiment.deepspeed_file", (), ONE_DEVICE),
    Rule("system.*", (), NOT_STARTED),
    Rule(
        "model.model_base",
        (),
        "read from the checkpoint's config.json; it chooses the preset of the sampler",
    ),
    Rule("model.vq_model_path", (), NO_IMAGES),
    Rule("model.image_resolution", (), NO_IMAGES),
    Rule("model.clip_model_path", (), NO_IMAGES),
    Rule("dataset.image_root", (), NO_IMAGES),
    Rule("dataset.add_think_prompt", (), "write the opening into task.template"),
    Rule("wandb.*", (), f'{NO_EFFECT}; run.wandb = "project" here'),
    Rule("execute.num_chunk", (), "task.sandbox.workers says how many programs run at a time"),
    Rule("reward.answer_must_in_box", ("task.extraction",), "boxed is the default", _extraction),
    Rule("reward.strict_len_check", (), "a response cut at max_tokens is judged as it stands"),
)


ENGINE = Rule("rollout.max_active", ("engine.slots",))

OPTIMIZER = (
    Rule("training.gradient_checkpointing_enable", ("model.gradient_checkpointing",)),
    Rule("training.mixed_precision", ("model.dtype",), "auto is bfloat16 on CUDA", _model_dtype),
    Rule("training.enable_tf32", (), "torch's own default stands"),
    Rule("training.seed", ("run.seed",)),
    Rule("training.max_grad_norm", ("optimizer.clip_norm",), "honoured here", number),
    Rule("optimizer.name", (), "AdamW always"),
    Rule("optimizer.params.learning_rate", ("optimizer.lr",), "", number),
    Rule("optimizer.params.beta1", (), "written as optimizer.betas"),
    Rule("optimizer.params.beta2", (), "written as optimizer.betas"),
    Rule("optimizer.params.weight_decay", ("optimizer.weight_decay",), "", number),
    Rule("optimizer.params.epsilon", ("optimizer.eps",), "", number),
    Rule("optimizer.params.scale_lr", (), NO_EFFECT),
    Rule("lr_scheduler.scheduler", ("optimizer.schedule",), "over the whole run, not each RL step"),
    Rule("lr_scheduler.params.warmup_steps", ("optimizer.warmup_steps",)),
    Rule(
        "lr_scheduler.params.min_lr_scale",
        ("optimizer.final_lr_share",),
        "honoured here; its cosine ignores it",
        number,
    ),
    Rule("lr_scheduler.params.learning_rate", (), NO_EFFECT),
)

EVALUATION = (
    Rule("evaluation.eval_dataset", ("task.test",), 'eval.split = "test" reads it', _data_file),
    Rule("evaluation.data_type", (), "one task is trained and measured"),
    Rule("evaluation.num_response_per_task", ("eval.samples",)),
    Rule("evaluation.max_active", (), "engine.slots serves both"),
    Rule("evaluation.if_eval", (), "eval.problems = 0 measures nothing"),
    *sampling_rules("evaluation", "eval.sampling"),
)

RL = (
    *EVERYWHERE,
    Rule("experiment.total_step", ("steps",)),
    Rule("experiment.save_every", ("save_every",)),
    Rule("experiment.eval_every", ("eval.every",)),
    Rule("experiment.train_value_every", ("value.train_every",)),
    Rule("model.pretrained_model", ("model.path",)),
    Rule("model.value_base_model", ("value.path",)),
    Rule("model.optimized_name", (), "the trained model is run.dir/model"),
    Rule("model.optimized_value_name", (), "the trained critic is run.dir/critic"),
    Rule("model.process_reward_model", (), NO_JUDGE),
    Rule("model.process_reward_chunk_size", (), NO_JUDGE),
    Rule("dataset.train_dataset", ("task.train",), "", _data_file),
    Rule("dataset.optimization_data", (), "rollouts stay in memory; see trajectories.jsonl"),
    Rule(
        "dataset.data_type",
        (),
        'math is task.kind = "json"; of code, published sets are kind = "dataset"',
    ),
    Rule("rollout.num_task_per_step", ("rollout.prompts",)),
    Rule("rollout.num_response_per_task", ("rollout.responses",)),
    ENGINE,
    *sampling_rules("rollout", "sampling"),
    Rule("rollout.reward_model.*", (), NO_JUDGE),
    Rule("training.method", ("objective.method",), "", _method),
    Rule(
        "training.block_size",
        (),
        "written as objective.train_block where it is not the rollouts' blocks",
    ),
    Rule("training.shrink", ("objective.shrink",)),
    Rule("training.post_num", ("objective.post_num",)),
    Rule("training.eps", ("objective.clip_low", "objective.clip_high"), "", number),
    Rule("training.beta", ("objective.kl",), "", number),
    Rule("training.use_kl_estimator_k3", ("objective.kl_estimator",), "", _estimator),
    Rule("training.gam", ("value.gamma",), "", number),
    Rule("training.lam", ("value.lam",), "", number),
    Rule(
        "training.mask_times_per_sample",
        (),
        "written as objective.mask_views; its block models draw one mask whatever it says",
    ),
    Rule("training.lower_p", ("objective.mask_low",), "of random_masking and coupled", number),
    Rule("training.upper_p", ("objective.mask_high",), "of random_masking and coupled", number),
    Rule("training.max_gen_length", (), "responses are trained whole: sampling.max_tokens"),
    Rule("training.max_prompt_len", (), "a prompt that does not fit is an error, never dropped"),
    Rule(
        "training.gradient_accumulation_steps",
        (),
        "stands in minibatches, optimizer steps per RL step: a handful there, choose yours",
    ),
    Rule("training.batch_size_lm", (), "optimizer.token_budget says how much goes in a pass"),
    Rule("training.num_train_epochs", ("epochs",), "shuffled anew; not shuffled there"),
    Rule("optimizer.params.policy_learning_rate", ("optimizer.lr",), "", number),
    Rule("optimizer.params.value_learning_rate", ("value.lr",), "", number),
    *OPTIMIZER,
    *EVALUATION,
)

SFT = (
    *EVERYWHERE,
    Rule("experiment.save_every", ("save_every",)),
    Rule("model.pretrained_model", ("model.path",)),
    Rule("model.optimized_name", (), "the trained model is run.dir/model"),
    Rule("dataset.optimization_data", ("data.path",), "", _data_file),
    Rule("training.method", (), "unmask sft is block SFT (semi-ar); the others are not there yet"),
    Rule("training.block_size", ("model.block_size",), "of block models"),
    Rule("training.lower_p", ("noise.low",), "", number),
    Rule("training.upper_p", ("noise.high",), "", number),
    Rule("training.mask_times_per_sample", ("noise.views",), "fresh at every pass"),
    Rule("training.shrink", (), "only for its trace method, which is not there yet"),
    Rule("training.post_num", (), "slots right of the end are hidden and unscored"),
    Rule("training.max_gen_length", (), "a demonstration that does not fit is an error, never cut"),
    Rule("training.max_prompt_len", (), "a prompt that does not fit is an error, never dropped"),
    Rule("training.batch_size_lm", (), "written as data.batch_size, with the accumulation"),
    Rule("training.gradient_accumulation_steps", (), "written as data.batch_size, with the batch"),
    Rule("training.num_train_epochs", (), "set steps = epochs * demonstrations / data.batch_size"),
    *OPTIMIZER,
)

EVAL = (
    *EVERYWHERE,
    Rule("model", ("model.path",)),
    Rule("model_base", (), "read from the checkpoint's config.json; it chooses sampling.preset"),
    Rule("dataset.eval_dataset", ("task.test",), "", _data_file),
    Rule(
        "dataset.data_type",
        (),
        'math is task.kind = "json"; of code, published sets are kind = "dataset"',
    ),
    Rule("rollout.num_response_per_task", ("samples",)),
    ENGINE,
    *sampling_rules("rollout", "sampling"),
)

RULES: dict[Kind, tuple[Rule, ...]] = {"rl": RL, "sft": SFT, "eval": EVAL}

EVAL_SET = "evaluation.eval_dataset"
VALUE_BASE = "model.value_base_model"
JSON_TASK = Implied("task.kind", "json", "question and ground_truth_answer")
IMPLIED: dict[Kind, tuple[Implied, ...]] = {
    "rl": (
        JSON_TASK,
        Implied("minibatches", 4, "rows of a step / (devices * batch_size_lm * accumulation)"),
        Implied("filter.low", 0.2, "tasks it solves less often are left out"),
        Implied("filter.high", 0.8, "tasks it solves more often are left out"),
        Implied(
            "objective.reduction", "constant", "its block models divide by the longest response"
        ),
        Implied("objective.max_log_ratio", 10, "its block models clamp the log-ratio"),
        Implied(
            "advantage.forfeit_tokens", 5, "a maths answer within 5 tokens of the end is wrong"
        ),
        Implied("optimizer.reset_every_step", True, "AdamW's moments start anew at every RL step"),
        Implied("optimizer.betas", [0.9, 0.999], "AdamW's usual"),
        Implied("value.enabled", True, "a base for it is all it takes", VALUE_BASE),
        Implied("eval.split", "test", "where evaluation.eval_dataset goes", EVAL_SET),
        Implied("eval.problems", 1_000_000, "it measures the whole set", EVAL_SET),
    ),
    "sft": (
        Implied("noise.noise", "per_token", "each token draws its own noise level"),
        Implied("optimizer.betas", [0.9, 0.999], "AdamW's usual"),
    ),
    "eval": (JSON_TASK,),
}


def kind_of_foreign(table: Mapping[str, Any]) -> Kind:
    """Guess what a dLLM-RL file configures: training on rollouts, on data, or an evaluation.

    Raises:
        ValueError: it has none of the sections that would tell.
    """
    if "training" in table:
        return "rl" if "rollout" in table else "sft"
    if "rollout" in table:
        return "eval"
    raise ValueError(
        "the file has neither a training nor a rollout section, so it is no configuration of "
        "dLLM-RL; say which kind it is meant to be: --kind rl"
    )


def translate(table: Mapping[str, Any], kind: Kind) -> str:
    """Return a dLLM-RL configuration as our TOML, with a comment for every key without a line.

    Args:
        table: the parsed YAML.
        kind: which command the result is for.

    Raises:
        ValueError: a number is none, or a `${...}` names a key that is not there.
    """
    old = {name: _resolve(name, value, table) for name, value in flatten(_with_text_keys(table))}
    old = {name: with_target(name, value, old) for name, value in old.items()}
    lines: dict[str, str] = {}
    comments: list[str] = []
    for name, value in old.items():
        rule = _rule(name, kind)
        reason = _reason_for_none(rule, value) or _reason_of_method(name, old)
        if rule is None or reason:
            comments.append(_comment(name, value, reason))
            continue
        remark = f"{name}; {rule.note}" if rule.note else name
        taken = [key for key in rule.new if key in lines]
        if taken:
            comments.append(_comment(name, value, f"{taken[0]} stands above already"))
        if isinstance(value, list) and len(value) > 1:
            comments.append(_comment(name, value, "one evaluation at a time: the first is taken"))
        for key in rule.new:
            lines.setdefault(key, _line(key, _convert(rule, value), remark))
    for new, value, note in _implied(old, kind):
        lines.setdefault(new, _line(new, value, note))
    tail = ["", "# Without a line above:", *comments] if comments else []
    ordered = sorted(lines, key=lambda key: [*key.split(".")[:-1]])
    return "\n".join([*_head(old, kind), *(lines[key] for key in ordered), *tail])


def markdown_table(kind: Kind) -> str:
    """Return the table old key -> new key of one kind, as it stands in the documentation."""
    rows = ["| dLLM-RL | unmask | remark |", "|---|---|---|"]
    for rule in RULES[kind]:
        new = ", ".join(f"`{key}`" for key in rule.new) or "-"
        rows.append(f"| `{rule.old}` | {new} | {rule.note} |")
    for implied in IMPLIED[kind]:
        rows.append(f"| (always) | `{implied.new} = {to_toml(implied.value)}` | {implied.note} |")
    return "\n".join(rows)


def _head(old: Mapping[str, Any], kind: Kind) -> list[str]:
    name = model_base(old)
    warning = f"# {name} models are not there yet: supported are {' and '.join(PRESET_OF)}."
    return [
        f"# A configuration of dLLM-RL, for `unmask {kind}`; look through it, and check it with",
        f"# `unmask config {kind} FILE.toml`.",
        *([] if name in PRESET_OF else [warning]),
        "",
    ]


def _reason_for_none(rule: Rule | None, value: Any) -> str:
    """Say why a key has no line; nothing where it has one."""
    if rule is None:
        return "unknown here: the importer has no rule for it"
    if not rule.new:
        return rule.note
    return "no value is given" if value is None else ""


def _reason_of_method(name: str, old: Mapping[str, Any]) -> str:
    """Say why a key has no line where the file's method does not look at it."""
    is_masked = _method(old.get("training.method", "TraceRL")) in ("random", "coupled")
    return "only TraceRL merges reveals" if name == "training.shrink" and is_masked else ""


def _method_lines(old: Mapping[str, Any]) -> list[tuple[str, Any, str]]:
    """Return the lines of RL that depend on its method and on the kind of its model."""
    is_block_model = model_base(old) in BLOCK_MODELS
    blocks = [old.get(f"{section}.block_size") for section in ("training", "rollout")]
    found: list[tuple[str, Any, str]] = []
    if is_block_model and all(blocks) and blocks[0] != blocks[1]:
        found.append(("objective.train_block", blocks[0], "training.block_size"))
    if not is_block_model:
        remark = "without a key there: its other models divide by a view's targets"
        found.append(("objective.reduction", "view", remark))
    if _method(old.get("training.method")) not in ("random", "coupled"):
        return found
    if is_block_model:
        remark = "without a key there: each token draws its own level"
        return [*found, ("objective.mask_level", "per_token", remark)]
    times = old.get("training.mask_times_per_sample") or 1
    return [*found, ("objective.mask_views", times, "training.mask_times_per_sample")]


def _with_text_keys(table: Mapping[Any, Any]) -> dict[str, Any]:
    """Make every key a text on one line: YAML reads `on:` as true and `1:` as a number."""
    return {
        " ".join(str(key).split()): _with_text_keys(value) if isinstance(value, Mapping) else value
        for key, value in table.items()
    }


def _rule(name: str, kind: Kind) -> Rule | None:
    exact = next((rule for rule in RULES[kind] if rule.old == name), None)
    patterns = (r for r in RULES[kind] if r.old.endswith(".*") and name.startswith(r.old[:-1]))
    return exact or next(patterns, None)


def _resolve(name: str, value: Any, table: Mapping[str, Any]) -> Any:
    """Follow `${section.key}`, as OmegaConf does."""
    found = REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    node: Any = table
    for part in found[1].split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    if node is None or node == value:
        raise ValueError(f"{name} = {value}: the file has no key {found[1]}")
    return node


def _convert(rule: Rule, value: Any) -> Any:
    try:
        return rule.convert(value)
    except ValueError:
        raise ValueError(f"{rule.old} = {value!r}: is not a number") from None


def _implied(old: Mapping[str, Any], kind: Kind) -> list[tuple[str, Any, str]]:
    """Return the lines that stand for no single key: (key, value, remark)."""
    found: list[tuple[str, Any, str]] = []
    usual = {"optimizer.params.beta1": 0.9, "optimizer.params.beta2": 0.999}
    if any(name in old for name in usual):
        betas = [number(old.get(name, value)) for name, value in usual.items()]
        found.append(("optimizer.betas", betas, ", ".join(usual)))
    if kind == "sft" and "training.batch_size_lm" in old:
        steps = old.get("training.gradient_accumulation_steps") or 1
        remark = "batch_size_lm * gradient_accumulation_steps; multiply by the devices it had"
        found.append(("data.batch_size", old["training.batch_size_lm"] * steps, remark))
    if kind == "rl":
        found += _method_lines(old)
    always = (i for i in IMPLIED[kind] if not i.when or old.get(i.when) is not None)
    found += sampling_lines(old, kind)
    return found + [(i.new, i.value, f"without a key there: {i.note}") for i in always]


def _line(key: str, value: Any, remark: str) -> str:
    return f"{key} = {to_toml(value)}  # {remark}"


def _comment(name: str, value: Any, reason: str) -> str:
    return f"# {name} = {'null' if value is None else to_toml(value)}: {reason}"
