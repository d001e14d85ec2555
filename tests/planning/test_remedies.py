"""Every remedy is the plan of the config with its words."""

import pytest

from tests.planning.cases import case
from unmask.planning.published import SHAPES
from unmask.planning.remedies import Remedy, remedies


def planned(words: str, shape: str, count: int) -> Remedy:
    """Return the plan that a user gets with these words."""
    config = [word for word in words.split() if "=" in word]
    _, _, number = words.partition("--devices ")
    found = case(*config, spec=SHAPES[shape], count=int(number) if number else count)
    return Remedy(words, found, found.plan())


@pytest.mark.parametrize(
    ("shape", "count"), [("8B", 1), ("8B", 8), ("30B-A3B", 8), ("30B-A3B", 64)]
)
def test_figures_are_those_of_the_plan_with_the_change(shape: str, count: int) -> None:
    before = case(spec=SHAPES[shape], count=count)
    found = remedies(before)
    assert {"model.gradient_checkpointing=true", "lora.rank=16"} <= {r.words for r in found}
    for remedy in found:
        assert planned(remedy.words, shape, count) == remedy
        assert remedy.plan.memory.peak < before.plan().memory.peak
    assert found[-1].plan.memory.fits  # alone or combined, one of them is enough


def test_a_job_that_fits_needs_none() -> None:
    assert remedies(case(spec=SHAPES["1.7B"], count=64)) == []


def test_packs_are_not_cut_below_a_trajectory() -> None:
    budgets = [
        int(word.partition("=")[2])
        for remedy in remedies(case(count=1))
        for word in remedy.words.split()
        if word.startswith("optimizer.token_budget=")
    ]
    assert budgets and min(budgets) >= 1280


def test_sft_has_no_remedy_of_the_engine() -> None:
    words = [remedy.words for remedy in remedies(case(kind="sft", count=1))]
    assert words and not any("engine" in word for word in words)
