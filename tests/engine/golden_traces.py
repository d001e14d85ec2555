"""Sampling traces of the published SDAR programs, as requests and what must come back."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.engine.writers import Ask
from unmask.types import SamplingParams, Strategy, Trajectory

SDAR = Path(__file__).parents[1] / "golden" / "sdar"

STRATEGIES: dict[str, Strategy] = {
    "low_confidence_static": "static",
    "low_confidence_dynamic": "dynamic",
    "sequential": "left_to_right",
}

Response = tuple[list[int], list[int]]  # token ids and step map of a response


@dataclass(frozen=True, slots=True)
class Trace:
    """Prompts that ran together, and the response to each."""

    asks: list[Ask]
    expected: list[Response]


def _params(settings: dict[str, Any], max_tokens: int, stops: tuple[int, ...]) -> SamplingParams:
    return SamplingParams(
        strategy=STRATEGIES[settings["remasking_strategy"]],
        block_size=settings["block_length"],
        denoising_steps=settings["denoising_steps"],
        threshold=settings["confidence_threshold"],
        temperature=0,  # the recorded programs replaced their draw by argmax
        top_k=settings["top_k"],
        top_p=settings["top_p"],
        confidence="filtered" if settings["top_k"] else "raw",
        stop_token_ids=stops,
        max_tokens=max_tokens,
    )


def _cut(path: Response, stops: tuple[int, ...]) -> Response:
    """End a response at its first stop token."""
    ids, steps = path
    end = next((i + 1 for i, token in enumerate(ids) if token in stops), len(ids))
    return ids[:end], steps[:end]


def _trace(entry: dict[str, Any]) -> Trace:
    settings, result = entry["settings"], entry["result"]
    if entry["engine"] == "sdar_hf_generate":
        stops = tuple(settings["stopping_criteria_idx"] or ())
        pairs = zip(entry["prompt_ids"], result["output_ids"], result["unmask_step"], strict=True)
        # Written in whole blocks, whatever length was asked for.
        paths = [(ids[len(p) :], steps[len(p) :]) for p, ids, steps in pairs]
        limits = [len(ids) for ids, _ in paths]
    else:
        assert entry["engine"] == "jetengine_scheduler" and not settings["stop_words"]
        stops = (settings["eos_token_id"],)
        paths = list(zip(result["completion_ids"], result["unmask_step"], strict=True))
        limits = [settings["max_tokens"]] * len(paths)
    asks = [
        (prompt, _params(settings, limit, stops))
        for prompt, limit in zip(entry["prompt_ids"], limits, strict=True)
    ]
    return Trace(asks, [_cut(path, stops) for path in paths])


def golden_traces() -> list[Any]:
    """Return every recorded trace without a mark, as pytest parameters."""
    entries = json.loads((SDAR / "expected_generation.json").read_text())
    return [
        pytest.param(_trace(entry), id=entry["name"])
        for entry in entries
        if not entry.get("quirk") and not entry.get("ties")
    ]


def path_of(trajectory: Trajectory) -> Response:
    """Return what a trace records of a trajectory."""
    end = trajectory.num_response
    return list(trajectory.canvas_ids[:end]), list(trajectory.step_map[:end])
