"""Builds an `LLM` from `[model]` and `[engine]` sections; device and number format are decided here."""

from dataclasses import replace

import torch

from unmask.checkpoints.checkpoint import load_model
from unmask.checkpoints.lora_files import load_adapter
from unmask.configs.engine import EngineConfig
from unmask.configs.model import ModelConfig
from unmask.engine.llm import LLM
from unmask.engine.options import EngineParams
from unmask.models.attention import KEY_CHUNK
from unmask.models.batch_invariant import make_batch_invariant
from unmask.models.placement import device_of, dtype_of
from unmask.models.transformer import Model


def build_llm(model: ModelConfig, engine: EngineConfig) -> LLM:
    """Return an `LLM` with the checkpoint and adapters that a config names.

    Raises:
        ValueError: as `load_model`, `make_batch_invariant` and `load_adapter`, or for a device that this
            machine does not have.
    """
    device = device_of(model.device, "model.device")
    dtype = dtype_of(model.dtype, device, "model.dtype")
    loaded = load_model(model.path, device, dtype, model.mask_id, model.block_size, model.family)
    loaded.backbone.gradient_checkpointing = model.gradient_checkpointing
    if model.compile:
        loaded.backbone.compile_layers()
    if model.batch_invariant:
        make_batch_invariant(loaded)
    if model.adapter is not None:
        load_adapter(loaded, model.adapter)
    return LLM(
        loaded,
        params=engine_params(engine, loaded),
        image_codec=model.image_codec,
        image_preprocess=model.image_preprocess,
    )


def engine_params(engine: EngineConfig, model: Model) -> EngineParams:
    """Return the engine options of a config; on CUDA, `cache_tokens` defaults to half of the free memory."""
    params = EngineParams(**engine.model_dump())
    if params.cache_tokens is not None or model.device.type != "cuda":
        return params
    spec = model.spec
    per_token = 2 * spec.num_layers * spec.num_kv_heads * spec.head_width * model.dtype.itemsize
    free, _ = torch.cuda.mem_get_info(model.device)
    # Half: the rest is for training steps and the logits of a pass.
    return replace(params, cache_tokens=max(KEY_CHUNK, free // 2 // per_token))
