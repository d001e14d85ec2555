"""The records refuse what no sampler could honour, and read off what they hold."""

from dataclasses import replace

import pytest

from unmask.types import Prompt, SamplingParams, Trajectory


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("strategy", "greedy"),
        ("confidence", "raww"),
        ("temperature", float("nan")),
        ("denoising_steps", 0),
        ("block_size", 0),
        ("max_tokens", 0),
        ("n", 0),
        ("top_k", -1),
        ("temperature", -0.1),
        ("top_p", 1.01),
        ("top_p", 0.0),
        ("min_p", -0.5),
        ("threshold", 2.0),
        ("threshold", float("nan")),
        ("schedule", "cosine"),
        ("sub_block_size", 0),
        ("factor", -1.0),
        ("factor", float("inf")),
        ("entropy_bound", -0.1),
        ("entropy_bound", float("nan")),
        ("guidance", -1.0),
        ("edit_threshold", 1.5),
        ("max_edit_steps", -1),
        ("remask_threshold", -0.1),
    ],
)
def test_impossible_values_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} = "):
        SamplingParams(**{field: value})  # pyright: ignore[reportArgumentType]


def test_filters_are_seen() -> None:
    assert not SamplingParams().is_filtered
    assert SamplingParams(top_k=1).is_filtered
    assert SamplingParams(top_p=0.9).is_filtered
    assert SamplingParams(min_p=0.1).is_filtered
    assert not SamplingParams(temperature=0.5).is_filtered


def test_requests_that_revise_are_seen() -> None:
    assert not SamplingParams().revises
    assert SamplingParams(edit_threshold=0.0).revises
    assert SamplingParams(remask_threshold=0.0).revises


def test_a_response_is_the_start_of_its_canvas() -> None:
    trajectory = Trajectory(
        prompt=Prompt("toy", 0, ()),
        canvas_ids=(5, 6, 0, 7),
        step_map=(2, 1, 3, 2),
        behavior_logprobs=(0.0,) * 4,
        num_response=3,
        finish="stop",
        policy_version=0,
        sampling=SamplingParams(),
        num_forwards=3,
    )
    assert trajectory.response_ids == (5, 6, 0)
    assert trajectory.num_denoising_steps == 3
    assert replace(trajectory, num_response=1).response_ids == (5,)
