"""What a critic starts from: a checkpoint's backbone, the policy's frozen one, or the policy itself.

    value.shares_backbone         a head beside the policy's own
    value.lora beside [lora]      adapters on the policy's frozen weights, which are held once
    value.lora and value.path     adapters on that checkpoint's weights, frozen
    neither                       a second model, all of it trained

A resumed run takes what its last checkpoint holds of it (`checkpoints/value_model_files.py`) and the rest from
where it came from.
"""

from pathlib import Path

from unmask.checkpoints.checkpoint import load_value_model
from unmask.checkpoints.lora_files import load_adapter
from unmask.checkpoints.value_model_files import load_head
from unmask.configs.rl import RLConfig
from unmask.models.lora import LoRAParams, add_lora
from unmask.models.transformer import Model
from unmask.models.value_model import ActorCritic, ValueModel, critic_beside
from unmask.seeds import derive_seed

# Keeps the seed of the critic's fresh adapters apart from that of the policy's, and of the steps.
ADAPTER_DRAW = (0, 1)


def build_actor_critic(config: RLConfig, policy: Model, kept: Path | None = None) -> ActorCritic:
    """Put the critic's head beside the policy's.

    Args:
        config: the run's.
        policy: which it judges, and whose backbone it reads.
        kept: the `critic/` of the run's last checkpoint, if there is one.

    Raises:
        ValueError: there is no value head to take.
    """
    model = ActorCritic(policy)
    if kept is not None:
        load_head(model.value_head, kept)
    elif config.value.head == "stored":
        load_head(model.value_head, config.value.path or config.model.path)
    return model


def build_value_model(config: RLConfig, policy: Model, kept: Path | None = None) -> ValueModel:
    """Load a critic with a backbone of its own, or with adapters of its own, in the policy's number format.

    Args:
        config: the run's.
        policy: which it judges.
        kept: the `critic/` of the run's last checkpoint, if there is one.

    Raises:
        ValueError: the checkpoint has no value head to take, or is no model of the policy's kind.
    """
    build = _load if config.value.lora is None else _with_adapters
    model = build(config, policy, kept)
    model.backbone.gradient_checkpointing = config.model.gradient_checkpointing
    return model


def _with_adapters(config: RLConfig, policy: Model, kept: Path | None) -> ValueModel:
    """Return a critic whose adapters and head are trained, and nothing else."""
    value = config.value
    assert value.lora is not None
    # A head that is taken from a checkpoint has been trained on that checkpoint's backbone.
    is_beside = config.lora is not None and value.path is None and value.head == "zero"
    model = critic_beside(policy) if is_beside else _load(config, policy)
    if kept is None:
        seed = derive_seed(config.run.seed, *ADAPTER_DRAW)
        add_lora(model, LoRAParams(**value.lora.model_dump()), seed)
    else:
        load_adapter(model, kept)
        load_head(model.value_head, kept)
    model.value_head.requires_grad_(True)
    return model


def _load(config: RLConfig, policy: Model, kept: Path | None = None) -> ValueModel:
    """Load a whole critic: the one that is kept, else what the config says."""
    path = kept or config.value.path or config.model.path
    head = config.value.head if kept is None else "stored"
    model = load_value_model(path, policy.device, policy.dtype, head, policy.spec)
    for name in ("vocab_size", "attention", "is_shifted", "mask_id"):
        own, other = getattr(model.spec, name), getattr(policy.spec, name)
        if own != other:
            raise ValueError(
                f"value.path = {path}: its {name} is {own}, the policy's is {other}: the critic must "
                "read what the policy reads"
            )
    return model
