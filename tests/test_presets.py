"""Presets are values of fields that exist; what they reproduce is in the golden traces."""

from dataclasses import fields, replace

import pytest

from tests.engine.golden_traces import compared
from unmask.presets import PRESETS, preset
from unmask.sampling_params import SamplingParams

# Set request by request: part of no published sampler.
PER_REQUEST = {"seed", "n", "max_tokens", "stop_token_ids"}
# The settings that a recorded program takes.
SETTINGS = {
    *("block_size", "sub_block_size", "denoising_steps", "threshold", "temperature", "strategy"),
    *("top_k", "top_p", "guidance", "confidence", "edit_threshold", "max_edit_steps"),
    "entropy_bound",
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_sets_a_strategy_and_names_only_fields(name: str) -> None:
    names = {field.name for field in fields(SamplingParams)}
    assert PRESETS[name].keys() <= names - PER_REQUEST
    assert preset(name) == SamplingParams(**PRESETS[name])
    assert PRESETS[name]["strategy"]


@pytest.mark.parametrize("name", ["sdar", "sdar_static"])
def test_the_presets_of_sdar_rank_by_the_tempered_proposal(name: str) -> None:
    assert (preset(name).schedule, preset(name).confidence) == ("block", "filtered")


def test_the_preset_of_jetengine_bounds_the_entropy_as_its_scheduler_does() -> None:
    params = preset("dllm_rl_jetengine", strategy="entropy_bounded")
    assert (params.entropy_sum, params.entropy_bound) == ("inclusive", 0.35)
    assert preset("sdar").entropy_sum == "exclusive"


def test_changes_win() -> None:
    changed = preset("llada2_1", threshold=0.2, edit_threshold=None, max_tokens=7)
    assert changed == replace(preset("llada2_1"), threshold=0.2, edit_threshold=None, max_tokens=7)
    assert not changed.revises


def test_an_unknown_preset_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match="preset = 'sdra': must be one of sdar, sdar_static, "):
        preset("sdra")


def test_presets_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        PRESETS["sdar"] = {}  # pyright: ignore[reportIndexIssue]


def test_every_recorded_trace_has_a_preset_and_the_settings_of_its_program() -> None:
    """Every recorded request differs from one of the presets in nothing but what it states."""
    published = [preset(name) for name in PRESETS]
    for trace in compared():
        for _, params in trace.asks:
            plain = {
                field.name: getattr(params, field.name)
                for field in fields(params)
                if field.name in SETTINGS | PER_REQUEST
            }
            assert params in [replace(other, **plain) for other in published]
