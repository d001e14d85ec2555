"""Files of a critic: the parts that a run has trained.

a backbone of its own     a checkpoint of its family, `value_head.weight` among its tensors
adapters of its own       a `peft` directory, and the head in `value_head.safetensors`
the policy's backbone     `value_head.safetensors`
"""

from pathlib import Path
from typing import TypeGuard

import torch

from unmask.checkpoints.checkpoint import find_checkpoint, save_model
from unmask.checkpoints.lora_files import save_adapter
from unmask.checkpoints.tensor_files import save_tensors
from unmask.checkpoints.weights import open_tensors, require_value_head
from unmask.models.heads import ValueHead
from unmask.models.lora import adapters
from unmask.models.value_model import VALUE_HEAD, ActorCritic, ValueModel

HEAD = "value_head.safetensors"


def is_whole(model: ValueModel | ActorCritic) -> TypeGuard[ValueModel]:
    """Return whether all of a critic is trained, so that `save_critic` writes a whole checkpoint."""
    return isinstance(model, ValueModel) and not adapters(model)


def save_critic(model: ValueModel | ActorCritic, directory: str | Path) -> None:
    """Write the trained parts of a critic, from which a run can resume.

    Args:
        model: the critic.
        directory: made if it is not there.
    """
    if is_whole(model):
        save_model(model, directory)
        return
    if isinstance(model, ValueModel):
        save_adapter(model, directory)
    save_head(model.value_head, directory)


def export_critic(model: ValueModel | ActorCritic, directory: str | Path) -> None:
    """Write a critic for other runs: adapters are merged; on a policy's backbone it is the head alone."""
    if isinstance(model, ValueModel):
        save_model(model, directory)
    else:
        save_head(model.value_head, directory)


def save_head(head: ValueHead, directory: str | Path) -> None:
    """Write a value head as `value_head.safetensors` into a directory, made if it is not there."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    held = {VALUE_HEAD: head.weight.detach()}
    save_tensors(held, directory / HEAD)


@torch.no_grad()
def load_head(head: ValueHead, path_or_hub_id: str | Path) -> None:
    """Load the weight of a stored value head, from a file of its own or from a checkpoint.

    Raises:
        ValueError: naming the directory that has no head, or has one of another width.
    """
    directory = find_checkpoint(path_or_hub_id)
    file = directory / HEAD
    if not file.is_file():
        file = require_value_head(directory)
    with open_tensors(file) as reader:
        stored = reader.get_tensor(VALUE_HEAD)
    if stored.shape != head.weight.shape:
        raise ValueError(
            f"{file}: {VALUE_HEAD} has shape {tuple(stored.shape)}, the policy asks for "
            f"{tuple(head.weight.shape)}"
        )
    head.weight.copy_(stored)
