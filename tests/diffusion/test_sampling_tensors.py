"""Sampling parameters as tensors: each in its column, and no feature runs without a request for it."""

from dataclasses import fields
from typing import Any

import pytest
import torch

from tests.diffusion.requests import sampling
from unmask.diffusion.sampling_tensors import COLUMNS, SCHEDULES, STRATEGIES, Needs, SamplingTensors
from unmask.sampling_params import SamplingParams

# Every field with a value that is not its default, and the column that shows it.
STATED: dict[str, Any] = {
    "strategy": "random",
    "block_size": 8,
    "sub_block_size": 2,
    "denoising_steps": 3,
    "schedule": "linear",
    "threshold": 0.25,
    "factor": 2.5,
    "entropy_bound": 0.75,
    "entropy_sum": "inclusive",
    "temperature": 0.5,
    "top_k": 7,
    "top_p": 0.625,
    "min_p": 0.125,
    "confidence": "filtered",
    "edit_threshold": 0.375,
    "max_edit_steps": 5,
    "remask_threshold": 0.0625,
    "ranking_noise": 0.875,
    "guidance": 1.5,
    "writes": "image",
    "min_tokens": 4,
    "seed": 11,
}
# Decided elsewhere: by the loop, the engine or the caller.
ELSEWHERE = {"stop", "stop_token_ids", "max_tokens", "n"} | {
    *("pinned", "regex", "json_schema"),  # of the canvas, and of `Span`
}


def test_every_field_has_its_column() -> None:
    stated = sampling(STATED)
    columns = {name: getattr(stated, name).tolist() for name in COLUMNS}
    assert columns == {
        "strategy": [STRATEGIES.index("random")],
        "block": [8],
        "sub_block": [2],
        "steps": [3],
        "schedule": [SCHEDULES.index("linear")],
        "ranks_by_filtered": [True],
        "revises": [True],
        "sums_inclusively": [True],
        "writes_image": [True],
        **{
            name: [STATED[name]]
            for name in COLUMNS
            if name in STATED and name not in ("strategy", "schedule")
        },
    }
    assert STATED.keys() | ELSEWHERE == {field.name for field in fields(SamplingParams)}


def test_unset_limits_have_no_effect() -> None:
    plain = sampling({"block_size": 6})
    assert (plain.steps.item(), plain.sub_block.item()) == (6, 6)
    assert plain.edit_threshold.item() == torch.inf
    assert (plain.remask_threshold.item(), plain.max_edit_steps.item()) == (0, 0)
    assert not plain.revises.item()


def test_a_block_size_is_filled_in_before() -> None:
    with pytest.raises(AssertionError):
        SamplingTensors.of([SamplingParams()], torch.device("cpu"))


@pytest.mark.parametrize(
    ("change", "needed"),
    [
        ({"temperature": 0}, set()),
        ({"temperature": 0.5}, {"tempers"}),
        ({"top_k": 1}, {"tempers", "filters"}),
        ({"temperature": 0, "min_p": 0.5}, {"tempers", "filters"}),
        ({"confidence": "filtered"}, {"ranks_filtered"}),
        ({"edit_threshold": 0.0}, {"revises"}),
        ({"remask_threshold": 0.5}, {"revises"}),
        ({"guidance": 1.5}, {"guides"}),
        ({"writes": "image"}, {"writes_images"}),
    ],
)
def test_needs_are_the_features_of_any_request(change: dict[str, Any], needed: set[str]) -> None:
    flags = ("tempers", "filters", "ranks_filtered", "revises", "guides", "writes_images")
    alone = Needs.of([SamplingParams(**change)])
    plain = Needs.of([SamplingParams(strategy="random")])
    together = Needs.of([SamplingParams(strategy="random"), SamplingParams(**change)])
    assert {name for name in flags if getattr(alone, name)} == needed
    assert not any(getattr(plain, name) for name in flags)
    assert {name for name in flags if getattr(together, name)} == needed
    assert together.strategies == {"random", "dynamic"}


def test_needs_of_drawn_and_greedy_requests() -> None:
    greedy, drawing = SamplingParams(temperature=0), SamplingParams()
    seen = [(n.draws, n.is_greedy) for n in map(Needs.of, ([greedy], [drawing], [greedy, drawing]))]
    assert seen == [(False, True), (True, False), (True, True)]


def test_rules_are_put_into_rows_and_taken_with_all_their_columns() -> None:
    first, second = sampling({"seed": 1}, {"seed": 2, **STATED}), sampling({"top_k": 3})
    grown = first.grown(4)
    grown.put(torch.tensor([3]), second)
    parts = {0: (first, 0), 1: (first, 1), 3: (second, 0)}
    for name in COLUMNS:
        column = getattr(grown, name)
        for place, (part, row) in parts.items():
            assert column[place] == getattr(part, name)[row], name
        again = getattr(grown.take(torch.tensor([3, 1, 1])), name)
        assert torch.equal(again, column[[3, 1, 1]]), name
    assert len(first.seed) == 2, "a copy"
