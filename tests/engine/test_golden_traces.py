"""Recorded settings as requests: every setting of a published program reaches the request, or is named."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.engine.golden_traces import (
    FAMILIES,
    GOLDEN,
    PARAMS,
    golden_model,
    path_of,
    ranks,
    stops_of,
    trace_of,
)
from tests.engine.writers import by_engine, by_reference
from unmask.presets import preset

# Settings that the mappings do not read, with the only values that they stand for.
FIXED: dict[str, tuple[Any, ...]] = {
    "temperature": (0, 1.0),  # the draw was replaced by argmax
    "alg_temp": (None,),
    "eps": (1e-3,),
    "remasking": ("low_confidence",),
    "eos_early_stop": (False, True),  # what it leaves out lies right of the stop
}
# Read where the prompts, the canvas and the cache are.
ELSEWHERE = {
    *("mask_id", "max_tokens", "max_new_tokens", "gen_length", "cache", "use_block_cache"),
}


class Recorder(dict[str, Any]):
    """Settings that record which of them are read."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return super().get(key, default)


def recorded() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the engine and the settings of every recorded trace."""
    for family in FAMILIES:
        for entry in json.loads((GOLDEN / family / "expected_generation.json").read_text()):
            yield entry["engine"], entry["settings"]


def test_no_setting_of_a_trace_is_dropped() -> None:
    read: dict[str, set[str]] = {}
    for engine, settings in recorded():
        recorder = Recorder(settings)
        PARAMS[engine](recorder)
        stops_of(recorder)
        read.setdefault(engine, set()).update(recorder.read)
    for engine, settings in recorded():
        for key in settings.keys() - read[engine] - ELSEWHERE:
            assert settings[key] in FIXED[key], f"{engine}: {key} = {settings[key]} is not mapped"


def settings_of(engine: str, **changes: Any) -> dict[str, Any]:
    """Return the settings of an engine's first trace, with changes."""
    return next(settings for name, settings in recorded() if name == engine) | changes


@pytest.mark.parametrize(
    ("engine", "stated", "expected"),
    [
        ("dream_diffusion_generate", None, 0),
        ("dream_diffusion_generate", 3, 3),
        ("sdar_hf_generate", 3, 3),
    ],
)
def test_top_k_reaches_the_request(engine: str, stated: int | None, expected: int) -> None:
    assert PARAMS[engine](settings_of(engine, top_k=stated)).top_k == expected


# What JetEngine's own scheduler (Gen-Verse/dLLM-RL@10b4fd1) made of the logits of `golden/sdar`, its
# draw replaced by argmax as in the recorded traces.
ENTROPY_BOUNDED: dict[str, Any] = {
    "name": "entropy_bounded",
    "engine": "jetengine_scheduler",
    "settings": {
        "mask_id": 310,
        "max_tokens": 18,
        "block_length": 8,
        "denoising_steps": 8,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "remasking_strategy": "entropy_bounded",
        "eb_threshold": 2.0,
        "confidence_threshold": 0.9,
        "eos_token_id": 300,
        "stop_words": [],
    },
    "prompt_ids": [[106, 185, 215, 56, 201, 183, 186], [225, 9, 190]],
    "result": {
        "completion_ids": [
            [309, 133, 254, 313, 313, 313, 313, 315, 238, 313, 261, 38, 0, 0, 0, 172, 94, 313],
            [220, 190, 76, 134, 134, 32, 220, 269, 25, 284, 32, 32, 25, 259, 32, 244, 239, 239],
        ],
        "unmask_step": [
            [1, 5, 4, 3, 2, 2, 2, 3, 2, 6, 7, 6, 7, 7, 7, 6, 8, 11],
            [3, 2, 2, 1, 1, 4, 6, 8, 5, 7, 4, 4, 5, 10, 13, 12, 15, 11],
        ],
    },
}


def test_jetengine_s_entropy_bound_comes_back() -> None:
    trace = trace_of("sdar", ENTROPY_BOUNDED)
    model = golden_model(trace)
    for ask, expected, by_batch in zip(
        trace.asks, trace.expected, by_engine(model, trace.asks), strict=True
    ):
        assert ranks(path_of(by_batch, expected)) == ranks(expected)
        assert ranks(path_of(by_reference(model, ask), expected)) == ranks(expected)
        paper = by_reference(model, (ask[0], replace(ask[1], entropy_sum="exclusive")))
        assert ranks(path_of(paper, expected)) != ranks(expected)


def test_jetengine_s_entropy_bound_reaches_the_request_with_its_own_count() -> None:
    settings = ENTROPY_BOUNDED["settings"]
    params = PARAMS["jetengine_scheduler"](settings)
    assert (params.strategy, params.entropy_sum) == ("entropy_bounded", "inclusive")
    assert params.entropy_bound == 2.0
    unstated = {key: value for key, value in settings.items() if key != "eb_threshold"}
    params = PARAMS["jetengine_scheduler"](unstated)
    assert params.entropy_bound == preset("dllm_rl_jetengine").entropy_bound
