"""The parts of the group `correctness` run in small on a CPU, pass there, and fail where a number is wrong."""

import importlib
import json
from pathlib import Path

import pytest
import torch

from tools.gpu.part import Part, Setting
from tools.gpu.small_models import relative, worst
from unmask.models.families import families

# Part, and the sections of figures that it must have.
PARTS = {
    "engine_learner_gap": ("dense fp32", "dense bf16", "experts fp32", "experts bf16"),
    "engine_reference": ("fp32, graphs, batch 1", "bf16, read at once, batch 16"),
    "flex_attention": ("fp32 256 x [8, 2, 1]", "bf16 256 x [16, 2, 2]"),
    "golden_logits": ("sdar fp32", "llada2 bf16", "dream fp32"),
    "gradient_checkpointing": ("fp32", "bf16"),
    "grouped_experts": ("products fp32", "engine bf16"),
    "lora": ("fp32", "bf16"),
    "paged_attention": ("lengths", "fp32 (128, 32, 8, 4)", "bf16 (96, 8, 2, 32)"),
    "resume": ("checkpoint bf16", "sft fp32", "rl fp32"),
}


def part(name: str) -> Part:
    return importlib.import_module(f"tools.gpu.parts.{name}").PART


@pytest.mark.parametrize("name", PARTS)
def test_part_passes_in_small(name: str, tmp_path: Path) -> None:
    found = part(name)
    assert found.group == "correctness"
    outcome = found.run(Setting(torch.device("cpu"), is_tiny=True, folder=tmp_path))
    assert outcome.passed, json.dumps(outcome.figures, indent=1)
    assert outcome.summary and set(PARTS[name]) <= outcome.figures.keys()
    json.dumps(outcome.figures)


def test_limits_of_the_group_fit_into_its_share_of_the_time() -> None:
    assert all(part(name).limit_s <= 120 for name in PARTS)


def test_a_number_that_is_not_finite_passes_no_bound() -> None:
    broken = worst([torch.tensor([1.0, torch.nan])], [torch.ones(2)])
    assert relative(broken) == float("inf")
    mild, large = torch.tensor([1.0, 1.1]), torch.tensor([1000.0, 1001.0])
    found = worst([mild, large], [torch.ones(2), torch.full((2,), 1000.0)])
    assert relative(found) == pytest.approx(0.1)


def test_a_wrong_recording_fails_the_part_of_logits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figures are there nevertheless."""
    module = importlib.import_module("tools.gpu.parts.golden_logits")
    forward = module.forward
    monkeypatch.setattr(module, "forward", lambda *given: forward(*given) + 0.01)
    monkeypatch.setattr(module, "families", lambda: families()[:1])
    outcome = module.run(Setting(torch.device("cpu"), is_tiny=True, folder=tmp_path))
    assert outcome.passed is False and len(outcome.figures) == 2
