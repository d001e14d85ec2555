"""From `[model]` and `[engine]` sections to an `LLM`: where device and number format are decided."""

import torch

from unmask.configs.engine import EngineConfig
from unmask.configs.model import ModelConfig
from unmask.engine.llm import LLM
from unmask.models.checkpoint import load_model


def build_llm(model: ModelConfig, engine: EngineConfig) -> LLM:
    """Load the checkpoint a config names and put an engine around it."""
    device = _device(model.device)
    loaded = load_model(model.path, device, _dtype(model, device), model.mask_id, model.block_size)
    loaded.backbone.gradient_checkpointing = model.gradient_checkpointing
    return LLM(loaded, max_slots=engine.slots)


def _device(name: str) -> str:
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def _dtype(model: ModelConfig, device: str) -> torch.dtype:
    if model.dtype == "auto":
        return torch.bfloat16 if device.startswith("cuda") else torch.float32
    return getattr(torch, model.dtype)
