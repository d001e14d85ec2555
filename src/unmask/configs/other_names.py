"""Keys of other libraries and the corresponding keys here, for the error about an unknown key."""

from collections.abc import Collection

from unmask.vllm_names import OTHER_NAMES

# Keys here, and the names that other libraries have for them.
ROWS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("optimizer.lr",): ("learning_rate",),
    ("optimizer.lr", "advantage.lr"): ("lr",),
    ("optimizer.schedule",): ("lr_scheduler_type", "lr_scheduler"),
    ("optimizer.warmup_steps",): ("warmup_ratio", "warmup_steps", "num_warmup_steps"),
    ("optimizer.betas",): ("adam_beta1", "adam_beta2"),
    ("optimizer.eps",): ("adam_epsilon",),
    ("optimizer.clip_norm",): ("max_grad_norm", "gradient_clip_val"),
    ("optimizer.token_budget",): ("gradient_accumulation_steps",),
    ("model.dtype",): ("bf16", "fp16", "torch_dtype", "mixed_precision", "precision"),
    ("model.gradient_checkpointing",): ("gradient_checkpointing",),
    ("data.batch_size", "rollout.prompts", "engine.max_sequences"): (
        "batch_size",
        "train_batch_size",
        "per_device_train_batch_size",
    ),
    # `slots` is its former name here.
    ("engine.max_sequences",): ("per_device_eval_batch_size", "max_num_seqs", "slots"),
    ("steps", "epochs"): ("num_train_epochs", "num_epochs", "epochs"),
    ("steps",): ("max_steps", "num_train_steps"),
    ("run.dir",): ("output_dir", "save_dir", "logging_dir"),
    ("run.seed",): ("seed",),
    ("run.keep_last",): ("save_total_limit",),
    ("run.tensorboard", "run.wandb", "run.trackio", "run.swanlab", "run.mlflow"): ("report_to",),
    ("save_every",): ("save_steps",),
    ("eval.every",): ("eval_steps",),
    ("model.path",): (
        "model_name_or_path",
        "model_name",
        "model_path",
        "pretrained_model",
        "pretrained",
    ),
    ("task.kind", "data.path"): ("dataset", "dataset_name"),
    ("data.path", "task.train"): ("train_file",),
    ("rollout.responses", "samples"): ("num_generations", "num_return_sequences"),
    ("loss.kl",): ("beta", "kl_coef"),
    ("loss.clip",): ("clip_range", "epsilon"),
    ("loss.mix",): ("mix_weight",),
    ("views.count",): ("num_mc", "num_t", "mc_num", "mc_samples"),
    ("views.prompt_noise", "views.context_noise"): ("p_mask_prompt",),
    ("minibatches", "epochs"): ("num_iterations", "ppo_epochs"),
    ("lora.rank",): ("lora_r",),
    ("lora.alpha",): ("lora_alpha",),
    ("lora.targets",): ("target_modules", "lora_target_modules"),
}
KEYS = {name: (f"sampling.{own}", f"eval.sampling.{own}") for name, own in OTHER_NAMES.items()} | {
    name: keys for keys, names in ROWS.items() for name in names
}

# Sections and keys of version 0.1, and where their content stands now.
RENAMED = {
    "objective": ("[views] and [loss]",),
    "noise": ("[views], data.canvas_tokens and loss.weight",),
    "value": ("[advantage] with kind value or shared_value",),
    "reference": ("loss.kl_to",),
    "advantage.overlong_penalty": ("shaping.overlong_penalty",),
    "advantage.overlong_tokens": ("shaping.overlong_tokens",),
    "advantage.forfeit_tokens": ("shaping.forfeit_tokens",),
}
# Keys of version 0.1 without a successor.
GONE = {
    "model.matmul": "model.matmul is gone: the engine always uses torch's own products; leave it out"
}
# Tables of one command, which the others refuse.
TABLES = {
    "pairs": "`unmask dpo` and `unmask reward-model` train on preference pairs",
    "data": "`unmask sft` trains on demonstrations",
    **dict.fromkeys(
        ("rollout", "reward", "advantage", "sampling", "filter", "shaping"),
        "`unmask rl` samples responses and trains on their rewards",
    ),
}


def ours(name: str, listed: Collection[str]) -> list[str]:
    """Return the keys of a configuration that correspond to another library's key, in a section or not.

    Args:
        name: dotted.
        listed: the keys that the configuration has.
    """
    if name in RENAMED:
        return list(RENAMED[name])
    return [key for key in KEYS.get(name.rpartition(".")[2].lower(), ()) if key in listed]
