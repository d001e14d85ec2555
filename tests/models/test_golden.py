"""Law 7: the numbers of the published SDAR code, case by case (see tests/golden/README.md)."""

import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from tests.models.toy import GOLDEN
from unmask.models.attention import sees
from unmask.models.checkpoint import load_model
from unmask.models.tiles import plan_documents
from unmask.models.transformer import Model, block_causal

FAMILIES = ("sdar",)
TOLERANCE = 5e-4

Case = dict[str, Any]


def cases(kind: str) -> list[Any]:
    """Return the cases of one kind, of every family, as pytest parameters."""
    return [
        pytest.param((family, case), id=f"{family}-{case['name']}")
        for family in FAMILIES
        for case in json.loads((GOLDEN / family / "cases.json").read_text())["cases"]
        if case["kind"] == kind
    ]


@pytest.fixture
def case(request: pytest.FixtureRequest) -> tuple[Model, Case, dict[str, Tensor]]:
    family, case = request.param
    prefix = f"{case['name']}/"
    tensors = load_file(GOLDEN / family / "expected.safetensors")
    recorded = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    return load_model(GOLDEN / family), case, recorded


def assert_close(actual: Tensor, expected: Tensor) -> None:
    error = (actual - expected).abs().max().item()
    assert error <= TOLERANCE, f"max abs error {error:.2e}"


def forward(model: Model, recorded: dict[str, Tensor]) -> Tensor:
    allowed = recorded["allowed_mask"][:, 0]
    return model.logits(recorded["input_ids"], recorded["position_ids"], allowed)


@pytest.mark.parametrize("case", cases("allowed"), indirect=True)
@torch.no_grad()
def test_forward(case: tuple[Model, Case, dict[str, Tensor]]) -> None:
    model, settings, recorded = case
    logits = forward(model, recorded)
    assert logits.isfinite().all()
    if "valid" in recorded:
        logits = logits * recorded["valid"][..., None]
    assert_close(logits, recorded["logits"])
    if settings["settings"].get("block_size") == model.spec.block_size and len(logits) == 1:
        assert_close(model.logits(recorded["input_ids"]), recorded["logits"])


@pytest.mark.parametrize("case", cases("cached"), indirect=True)
@torch.no_grad()
def test_cached_block_decode(case: tuple[Model, Case, dict[str, Tensor]]) -> None:
    """A cache of clean blocks is the clean text itself: one forward per block says what it would."""
    model, settings, recorded = case
    clean, noisy = recorded["clean_ids"], recorded["noisy_ids"]
    block, start = settings["settings"]["block_size"], settings["settings"]["n_prefill"]

    def last_block(ids: Tensor) -> Tensor:
        allowed = block_causal(ids.shape[1], block)[None]
        return model.logits(ids, torch.arange(ids.shape[1]), allowed)[:, -block:]

    ends = range(start + block, clean.shape[1] + 1, block)
    denoise = [
        last_block(torch.cat((clean[:, : e - block], noisy[:, e - block : e]), 1)) for e in ends
    ]
    commit = [last_block(clean[:, :e]) for e in ends]
    assert_close(torch.cat(denoise, 1), recorded["logits_denoise_cached"])
    assert_close(torch.cat(commit, 1), recorded["logits_commit_cached"])
    assert_close(model.logits(clean), recorded["logits_clean_full"])
    assert_close(model.logits(clean[:, :start]), recorded["logits_prefill"])


def published_loss(logits: Tensor, recorded: dict[str, Tensor], kind: str) -> Tensor:
    losses = F.cross_entropy(logits.transpose(1, 2), recorded["labels"], reduction="none")
    losses = losses * recorded["loss_mask"]
    if kind == "sdar_sft":
        return (losses / recorded["p_mask"]).sum() / recorded["n_answer"][0]
    assert kind == "tracerl_sft"
    return (losses.sum(1) / losses.shape[1]).mean()


@pytest.mark.parametrize("case", cases("train"), indirect=True)
def test_training_layout(case: tuple[Model, Case, dict[str, Tensor]]) -> None:
    model, settings, recorded = case
    rows = recorded["logit_index"][..., None]
    logits = forward(model, recorded)
    logits = logits.gather(1, rows.expand(-1, -1, logits.shape[-1]))
    assert_close(logits, recorded["logits"])

    loss = published_loss(logits, recorded, settings["settings"]["loss"])
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    torch.testing.assert_close(loss[None], recorded["loss"], rtol=1e-5, atol=0)
    torch.testing.assert_close(norm[None], recorded["grad_norm"], rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", ["train_doubled_b4", "train_packed_b4"])
@torch.no_grad()
def test_structure_says_the_published_masks(name: str) -> None:
    """Four integers per token and `sees` are the published mask, and a pack under them its logits."""
    model = load_model(GOLDEN / "sdar")
    tensors = load_file(GOLDEN / "sdar" / "expected.safetensors")
    lengths = tensors.get(f"{name}/doc_lens", torch.tensor([22])).tolist()
    document = torch.cat([torch.full((2 * n,), i) for i, n in enumerate(lengths)])
    positions = torch.cat([torch.arange(n).repeat(2) for n in lengths])
    copy = torch.cat([torch.arange(2).flip(0).repeat_interleave(n) for n in lengths])
    structure = torch.stack((document, positions // 4, copy, torch.full_like(document, -1)))

    allowed = sees(structure[:, :, None], structure[:, None, :])
    assert torch.equal(allowed, tensors[f"{name}/allowed_mask"][0, 0])
    logits = model(
        tensors[f"{name}/input_ids"][0],
        positions,
        plan_documents(structure),
        tensors[f"{name}/logit_index"][0],
    )
    assert_close(logits, tensors[f"{name}/logits"][0])
