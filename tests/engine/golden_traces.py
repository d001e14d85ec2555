"""Sampling traces of the published programs, as requests and what must come back."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from textwrap import shorten
from typing import Any

import pytest
import torch

from tests.engine.writers import Ask
from unmask.checkpoints.checkpoint import load_model
from unmask.configs.engine import CacheMode
from unmask.models.transformer import Model
from unmask.presets import preset
from unmask.sampling_params import SamplingParams
from unmask.types import Trajectory

GOLDEN = Path(__file__).parents[1] / "golden"
SDAR = GOLDEN / "sdar"
FAMILIES = (
    *("sdar", "sdar_moe", "llada", "llada_moe", "llada2", "dream", "mmada", "fast_dllm_v2"),
)

# Token ids and step map of a response; programs that recorded no step map give none.
Response = tuple[list[int], list[int] | None]


@dataclass(frozen=True, slots=True)
class Trace:
    """Prompts that ran together, and the response to each."""

    family: str
    mask_id: int
    asks: list[Ask]
    expected: list[Response]
    cache: CacheMode = "exact"


def _sdar(settings: dict[str, Any], name: str = "sdar") -> SamplingParams:
    strategies = {
        "low_confidence_static": "static",
        "low_confidence_dynamic": "dynamic",
        "sequential": "left_to_right",
        "entropy_bounded": "entropy_bounded",
    }
    return preset(
        name,
        strategy=strategies[settings["remasking_strategy"]],
        block_size=settings["block_length"],
        denoising_steps=settings["denoising_steps"],
        threshold=settings["confidence_threshold"],
        entropy_bound=settings.get("eb_threshold", preset(name).entropy_bound),
        temperature=0,  # the recorded programs replaced their draw by argmax
        top_k=settings["top_k"],
        top_p=settings["top_p"],
        confidence="filtered" if settings["top_k"] else "raw",
    )


def _llada(settings: dict[str, Any], name: str = "llada_official") -> SamplingParams:
    blocks = settings["gen_length"] // settings["block_length"]
    return preset(
        name,
        block_size=settings["block_length"],
        denoising_steps=settings["steps"] // blocks,
        guidance=settings.get("cfg_scale", 0.0),
        max_tokens=settings["gen_length"],
    )


def _fast_dllm(settings: dict[str, Any]) -> SamplingParams:
    if settings["threshold"] is None:
        return _llada(settings)
    return preset(
        "fastdllm_v1",
        block_size=settings["block_length"],
        threshold=settings["threshold"],
        max_tokens=settings["gen_length"],
    )


def _dream(settings: dict[str, Any]) -> SamplingParams:
    strategies = {"maskgit_plus": "static", "topk_margin": "margin", "entropy": "entropy"}
    return preset(
        "dream_official",
        strategy=strategies[settings["alg"]],
        denoising_steps=settings["steps"],
        top_k=settings["top_k"] or 0,
        top_p=settings["top_p"] or 1.0,
        max_tokens=settings["max_new_tokens"],
    )


def _llada2(settings: dict[str, Any]) -> SamplingParams:
    shared = {"block_size": settings["block_length"], "threshold": settings["threshold"]}
    if settings["version"] == "2.1":
        return preset(
            "llada2_1",
            **shared,
            edit_threshold=settings["editing_threshold"],
            max_edit_steps=settings["max_post_steps"],
        )
    return preset("llada2", **shared, denoising_steps=settings["steps"])


def _fast_dllm_v2(settings: dict[str, Any]) -> SamplingParams:
    return preset(
        "fastdllm_v2",
        block_size=settings["block_size"],
        sub_block_size=settings["small_block_size"],
        threshold=settings["threshold"],
    )


PARAMS: dict[str, Callable[[dict[str, Any]], SamplingParams]] = {
    "sdar_hf_generate": _sdar,
    "jetengine_scheduler": lambda settings: _sdar(settings, "dllm_rl_jetengine"),
    "llada_generate": _llada,
    "mmada_generate": lambda settings: _llada(settings, "mmada_official"),
    "fast_dllm_llada_generate": _fast_dllm,
    "dream_diffusion_generate": _dream,
    "llada2_generate": _llada2,
    "fast_dllm_v2_generate": _fast_dllm_v2,
}


def stops_of(settings: dict[str, Any]) -> tuple[int, ...]:
    """Return the stop ids that settings name; none named, none used."""
    named = (settings.get("stopping_criteria_idx"), settings.get("stop_words"))
    single = (settings.get(key) for key in ("eos_token_id", "eos_id", "stop_token"))
    return (*(i for ids in named for i in ids or ()), *(i for i in single if i is not None))


def _unpadded(entry: dict[str, Any]) -> list[list[int]]:
    """Return the prompts without their padding: ours never hold any."""
    masks = entry.get("attention_mask") or [[1] * len(p) for p in entry["prompt_ids"]]
    return [
        [token for token, is_real in zip(ids, mask, strict=False) if is_real]
        for ids, mask in zip(entry["prompt_ids"], masks, strict=True)
    ]


def _paths(entry: dict[str, Any]) -> list[Response]:
    """Return the responses generated after each prompt."""
    result, prompts = entry["result"], entry["prompt_ids"]
    steps = result.get("unmask_step") or [None] * len(prompts)
    if "completion_ids" in result:
        return list(zip(result["completion_ids"], steps, strict=True))
    if entry["engine"] == "llada2_generate":
        return [(ids, None) for ids in result["output_ids"]]
    return [
        (ids[len(p) :], None if s is None else s[len(p) :])
        for p, ids, s in zip(prompts, result["output_ids"], steps, strict=True)
    ]


def _cut(path: Response, length: int, stops: Sequence[int]) -> Response:
    """End a response at its length or its first stop token."""
    ids, steps = path
    end = next((i + 1 for i, token in enumerate(ids) if token in stops), len(ids))
    end = min(end, length)
    return ids[:end], None if steps is None else steps[:end]


def trace_of(family: str, entry: dict[str, Any]) -> Trace:
    """Return a recorded entry of a family as requests and responses."""
    settings, stops = entry["settings"], stops_of(entry["settings"])
    params, paths = PARAMS[entry["engine"]](settings), _paths(entry)
    if entry["engine"] == "sdar_hf_generate":  # written in whole blocks, whatever was asked for
        limits = [len(ids) for ids, _ in paths]
    else:
        keys = ("max_tokens", "gen_length", "max_new_tokens")
        asked = next(settings[key] for key in keys if key in settings)
        # Fast-dLLM v2 stops at the last whole block, which may be short of what was asked for.
        limits = [min(asked, len(ids)) for ids, _ in paths]
    changes = [{"max_tokens": limit, "stop_token_ids": stops} for limit in limits]
    prompts = _unpadded(entry)
    return Trace(
        family=family,
        mask_id=settings["mask_id"],
        asks=[(p, replace(params, **c)) for p, c in zip(prompts, changes, strict=True)],
        expected=[_cut(path, n, stops) for path, n in zip(paths, limits, strict=True)],
        cache=CACHES[settings.get("cache", "none")],
    )


CACHES: dict[str, CacheMode] = {"none": "exact", "prefix": "prefix", "dual": "dual"}


def why_left_out(entry: dict[str, Any]) -> str:
    """Return why a recorded trace is left out; empty where it is compared."""
    settings = entry["settings"]
    for mark in ("quirk", "ties"):
        if entry.get(mark):
            return shorten(f"{mark}: {entry[mark]}", 120)
    if settings.get("use_block_cache", False):
        return "block cache: what Fast-dLLM v2 keeps of a block is not what cache = 'dual' does"
    if settings.get("cache", "none") != "none":
        return "cache: recorded with an approximate cache"
    return ""


def golden_traces(*families: str) -> list[Any]:
    """Return every recorded trace as a pytest parameter; those left out skip, and say why."""
    return [
        pytest.param(
            None if (reason := why_left_out(entry)) else trace_of(family, entry),
            id=f"{family}-{entry['name']}",
            marks=[pytest.mark.skip(reason=reason)] if reason else [],
        )
        for family in families or FAMILIES
        for entry in json.loads((GOLDEN / family / "expected_generation.json").read_text())
    ]


def compared(*families: str) -> list[Trace]:
    """Return the recorded traces that are compared."""
    return [p.values[0] for p in golden_traces(*families) if p.values[0] is not None]


def cached_traces() -> list[Any]:
    """Return as pytest parameters the traces that were recorded with an approximate cache we have."""
    return [
        pytest.param(trace_of(family, entry), id=f"{family}-{entry['name']}")
        for family in FAMILIES
        for entry in json.loads((GOLDEN / family / "expected_generation.json").read_text())
        if entry["settings"].get("cache", "none") != "none"
    ]


def golden_model(trace: Trace) -> Model:
    """Return the model a trace was recorded with; its program drew from every id but the mask."""
    return _model(trace.family, trace.mask_id)


@cache
def _model(family: str, mask_id: int) -> Model:
    model = load_model(GOLDEN / family, mask_id=mask_id)
    model.head.drawable = torch.arange(model.spec.vocab_size) != mask_id
    return model


def path_of(trajectory: Trajectory, expected: Response) -> Response:
    """Return the recorded fields of a trajectory, in the form of `expected`."""
    end = trajectory.num_response
    steps = None if expected[1] is None else list(trajectory.step_map[:end])
    return list(trajectory.canvas_ids[:end]), steps


def ranks(response: Response) -> Response:
    """Number the steps 1, 2, ... without gaps: a published step that reveals nothing is no step of ours."""
    ids, steps = response
    if steps is None:
        return response
    order = {step: rank for rank, step in enumerate(sorted({s for s in steps if s}), start=1)}
    return ids, [order.get(step, 0) for step in steps]
