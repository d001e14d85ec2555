"""Keys of other libraries and the corresponding keys here, for the error about an unknown key."""

from collections.abc import Collection

from unmask.types import OTHER_NAMES

BATCH = ("data.batch_size", "rollout.prompts", "engine.max_sequences")
LENGTH = ("steps", "epochs")
MODEL = ("model.path",)
DTYPE = ("model.dtype",)

KEYS: dict[str, tuple[str, ...]] = {
    "learning_rate": ("optimizer.lr",),
    "lr": ("optimizer.lr", "advantage.lr"),
    "lr_scheduler_type": ("optimizer.schedule",),
    "lr_scheduler": ("optimizer.schedule",),
    "warmup_ratio": ("optimizer.warmup_steps",),
    "warmup_steps": ("optimizer.warmup_steps",),
    "num_warmup_steps": ("optimizer.warmup_steps",),
    "adam_beta1": ("optimizer.betas",),
    "adam_beta2": ("optimizer.betas",),
    "adam_epsilon": ("optimizer.eps",),
    "max_grad_norm": ("optimizer.clip_norm",),
    "gradient_clip_val": ("optimizer.clip_norm",),
    "gradient_accumulation_steps": ("optimizer.token_budget",),
    "bf16": DTYPE,
    "fp16": DTYPE,
    "torch_dtype": DTYPE,
    "mixed_precision": DTYPE,
    "precision": DTYPE,
    "batch_size": BATCH,
    "train_batch_size": BATCH,
    "per_device_train_batch_size": BATCH,
    "per_device_eval_batch_size": ("engine.max_sequences",),
    "max_num_seqs": ("engine.max_sequences",),
    "slots": ("engine.max_sequences",),  # its former name
    "num_train_epochs": LENGTH,
    "num_epochs": LENGTH,
    "epochs": LENGTH,
    "max_steps": ("steps",),
    "num_train_steps": ("steps",),
    "output_dir": ("run.dir",),
    "save_dir": ("run.dir",),
    "logging_dir": ("run.dir",),
    "save_steps": ("save_every",),
    "save_total_limit": ("run.keep_last",),
    "eval_steps": ("eval.every",),
    "report_to": ("run.tensorboard", "run.wandb"),
    "model_name_or_path": MODEL,
    "model_name": MODEL,
    "model_path": MODEL,
    "pretrained_model": MODEL,
    "pretrained": MODEL,
    "dataset": ("task.kind", "data.path"),
    "dataset_name": ("task.kind", "data.path"),
    "train_file": ("data.path", "task.train"),
    "num_generations": ("rollout.responses", "samples"),
    "beta": ("loss.kl",),
    "kl_coef": ("loss.kl",),
    "clip_range": ("loss.clip",),
    "epsilon": ("loss.clip",),
    "lora_r": ("lora.rank",),
    "lora_alpha": ("lora.alpha",),
    "target_modules": ("lora.targets",),
    "lora_target_modules": ("lora.targets",),
    "gradient_checkpointing": ("model.gradient_checkpointing",),
    "seed": ("run.seed",),
    **{
        name: (f"sampling.{field}", f"eval.sampling.{field}") for name, field in OTHER_NAMES.items()
    },
    "num_return_sequences": ("rollout.responses", "samples"),
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


def ours(name: str, listed: Collection[str]) -> list[str]:
    """Return the keys of a configuration that correspond to another library's key, in a section or not.

    Args:
        name: dotted.
        listed: the keys that the configuration has.
    """
    if name in RENAMED:
        return list(RENAMED[name])
    return [key for key in KEYS.get(name.rpartition(".")[2].lower(), ()) if key in listed]
