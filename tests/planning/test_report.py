"""The report holds the plan's figures, as text and as JSON."""

import json

import pytest

from tests.planning.cases import case
from unmask.planning.published import SHAPES
from unmask.planning.remedies import remedies
from unmask.planning.report import gib, report, to_dict


def test_a_job_that_does_not_fit() -> None:
    asked = case()
    plan, found = asked.plan(), remedies(asked)
    text = report(asked, plan, found)
    for part in plan.memory.parts:
        assert part.name in text and gib(part.update) in text
    assert f"It does not fit: the peak is {gib(plan.memory.peak)}" in text
    for remedy in found:
        assert remedy.words in text and gib(remedy.plan.memory.peak) in text
    assert "assumed: prompts of 256, responses of 1024 tokens" in text


def test_a_job_that_fits() -> None:
    asked = case(spec=SHAPES["1.7B"], count=64)
    text = report(asked, asked.plan(), [])
    assert "It fits: the peak is" in text and "What would change" not in text


def test_json_holds_everything() -> None:
    asked = case()
    found = json.loads(json.dumps(to_dict(asked, asked.plan(), remedies(asked))))
    assert found["fits"] is False and found["device"]["name"] == "h100"
    assert found["memory"]["peak"] == asked.plan().memory.peak
    assert found["seconds"]["step"] == asked.plan().seconds.step
    assert any(remedy["fits"] for remedy in found["remedies"])


def test_sft_has_one_column() -> None:
    asked = case("data.batch_size=64", kind="sft")
    text = report(asked, asked.plan(), [])
    assert "rollout" not in text and "update" in text


@pytest.mark.parametrize(
    ("word", "device", "reason"),
    [
        ("optimizer.memory=auto", "h100", "what is left of the device's memory"),
        ("optimizer.memory=auto", "cpu", "the memory of a published row of these lengths"),
        ("optimizer.memory=60", "h100", "60 GiB for weights, gradients, optimizer and activations"),
    ],
)
def test_a_chosen_budget_is_explained(word: str, device: str, reason: str) -> None:
    asked = case(word, device=device)
    plan = asked.plan()
    text = report(asked, plan, [])
    assert f"of {plan.job.token_budget} tokens" in text
    assert f"chosen by optimizer.memory: {reason}" in text
