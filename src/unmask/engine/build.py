"""From `[model]` and `[engine]` sections to an `LLM`: where device and number format are decided."""

import torch

from unmask.configs.engine import EngineConfig
from unmask.configs.model import ModelConfig
from unmask.engine.llm import LLM
from unmask.models.checkpoint import load_model


def build_llm(model: ModelConfig, engine: EngineConfig) -> LLM:
    """Load the checkpoint a config names and put an engine around it.

    Raises:
        ValueError: as `load_model`, or for a device that this machine has not.
    """
    device = _device(model.device)
    loaded = load_model(model.path, device, _dtype(model, device), model.mask_id, model.block_size)
    loaded.backbone.gradient_checkpointing = model.gradient_checkpointing
    return LLM(loaded, max_slots=engine.slots)


def _device(name: str) -> str:
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if num_gpus else "cpu"
    found = ["cpu", *(["cuda"] if num_gpus else []), *(f"cuda:{i}" for i in range(num_gpus))]
    if name not in found:
        raise ValueError(f"model.device = {name}: torch finds {', '.join(found)} here, or say auto")
    return name


def _dtype(model: ModelConfig, device: str) -> torch.dtype:
    if model.dtype == "auto":
        return torch.bfloat16 if device.startswith("cuda") else torch.float32
    return getattr(torch, model.dtype)
