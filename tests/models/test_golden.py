"""Law 7: the numbers of the published code of every family, case by case (see tests/golden/README.md)."""

import json
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from tests.models.toy import GOLDEN
from unmask.checkpoints.checkpoint import load_model
from unmask.models.attention import sees
from unmask.models.families import families
from unmask.models.moe import Experts, Router
from unmask.models.tiled_attention import plan_documents
from unmask.models.transformer import Model, block_causal

TOLERANCE = 5e-4
FORWARD_KINDS = ("plain", "allowed", "fdv2_block")
KINDS = (*FORWARD_KINDS, "cached", "train")

Case = dict[str, Any]


@cache
def recorded_cases(family: str) -> tuple[Case, ...]:
    # Families with images are recorded otherwise: `tests/models/vision`.
    return tuple(json.loads((GOLDEN / family / "cases.json").read_text()).get("cases", ()))


def cases(*kinds: str) -> list[Any]:
    """Return the cases of some kinds, of every family, as pytest parameters."""
    return [
        pytest.param((family.name, case), id=f"{family.name}-{case['name']}")
        for family in families()
        for case in recorded_cases(family.name)
        if case["kind"] in kinds
    ]


def golden_model(family: str, block_size: int | None = None) -> Model:
    """Load a golden checkpoint, with the mask id its traces name: not every config does."""
    traces = json.loads((GOLDEN / family / "expected_generation.json").read_text())
    mask_id = traces[0]["settings"]["mask_id"]
    return load_model(GOLDEN / family, mask_id=mask_id, block_size=block_size)


@pytest.fixture
def case(request: pytest.FixtureRequest) -> tuple[Model, Case, dict[str, Tensor]]:
    family, case = request.param
    prefix = f"{case['name']}/"
    tensors = load_file(GOLDEN / family / "expected.safetensors")
    recorded = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    assert recorded.keys() == {*case["inputs"], *case["outputs"]}
    return golden_model(family, case["settings"].get("block_size")), case, recorded


def test_every_family_has_cases_and_every_case_a_kind() -> None:
    for family in (family for family in families() if family.tiny.vision is None):
        kinds = {case["kind"] for case in recorded_cases(family.name)}
        assert kinds and kinds <= set(KINDS)
        assert kinds & set(FORWARD_KINDS)


def assert_close(actual: Tensor, expected: Tensor) -> None:
    error = (actual - expected).abs().max().item()
    assert error <= TOLERANCE, f"max abs error {error:.2e}"


def allowed_keys(recorded: dict[str, Tensor]) -> Tensor | None:
    """Return the attention mask: the recorded one, all but padding keys, or `None` for the family's own."""
    if "allowed_mask" in recorded:
        return recorded["allowed_mask"][:, 0]
    if "attention_mask" not in recorded:
        return None
    is_token = recorded["attention_mask"].bool()
    return is_token[:, None, :].expand(-1, is_token.shape[1], -1)


def forward(model: Model, recorded: dict[str, Tensor]) -> Tensor:
    ids, positions = recorded["input_ids"], recorded.get("position_ids")
    return model.logits(ids, positions, allowed_keys(recorded))


@pytest.mark.parametrize("case", cases(*FORWARD_KINDS), indirect=True)
@torch.no_grad()
def test_forward(case: tuple[Model, Case, dict[str, Tensor]]) -> None:
    model, _, recorded = case
    logits = forward(model, recorded)
    assert logits.isfinite().all()
    if "valid" in recorded:
        logits = logits * recorded["valid"][..., None]
    assert_close(logits, recorded["logits"])


BLOCK_CAUSAL = [
    parameter
    for parameter in cases("allowed")
    if "block_size" in parameter.values[0][1]["settings"]
    and "valid" not in parameter.values[0][1]["inputs"]
]


@pytest.mark.parametrize("case", BLOCK_CAUSAL, indirect=True)
@torch.no_grad()
def test_block_causal_masks_are_our_own(case: tuple[Model, Case, dict[str, Tensor]]) -> None:
    model, settings, recorded = case
    length = recorded["input_ids"].shape[1]
    own = block_causal(length, settings["settings"]["block_size"])
    assert own.equal(recorded["allowed_mask"][0, 0])
    if model.spec.attention == "block_causal":
        assert_close(model.logits(recorded["input_ids"]), recorded["logits"])


def decode_blocks(model: Model, clean: Tensor, blocks: Tensor, block: int, start: int) -> Tensor:
    """Return the logits of `blocks (1, L)` from `start` on, each block after the clean text before it.

    A cache of clean blocks is the clean text itself: one forward per block gives its logits. The last
    block may be a partial one.
    """
    found: list[Tensor] = []
    for first in range(start, clean.shape[1], block):
        ids = torch.cat((clean[:, :first], blocks[:, first : first + block]), 1)
        allowed = block_causal(ids.shape[1], block)[None]
        found.append(model.logits(ids, torch.arange(ids.shape[1]), allowed)[:, first:])
    return torch.cat(found, 1)


@pytest.mark.parametrize("case", cases("cached"), indirect=True)
@torch.no_grad()
def test_cached_block_decode(case: tuple[Model, Case, dict[str, Tensor]]) -> None:
    model, settings, recorded = case
    clean, noisy = recorded["clean_ids"], recorded["noisy_ids"]
    block, start = settings["settings"]["block_size"], settings["settings"]["n_prefill"]
    denoise = decode_blocks(model, clean, noisy, block, start)
    assert_close(denoise, recorded["logits_denoise_cached"])
    assert_close(decode_blocks(model, clean, clean, block, start), recorded["logits_commit_cached"])
    assert_close(model.logits(clean), recorded["logits_clean_full"])
    if start:
        assert_close(model.logits(clean[:, :start]), recorded["logits_prefill"])


@pytest.mark.parametrize("case", cases("cached"), indirect=True)
@torch.no_grad()
def test_block_decode_of_a_recording_cut_short(case: tuple[Model, Case, dict[str, Tensor]]) -> None:
    """Tokens missing from the last block change no earlier block."""
    model, settings, recorded = case
    block, start = settings["settings"]["block_size"], settings["settings"]["n_prefill"]
    clean, noisy = recorded["clean_ids"][:, :-1], recorded["noisy_ids"][:, :-1]
    found = decode_blocks(model, clean, noisy, block, start)
    assert found.shape[1] == clean.shape[1] - start
    whole = found.shape[1] // block * block
    assert_close(found[:, :whole], recorded["logits_denoise_cached"][:, :whole])
    assert (found - recorded["logits_denoise_cached"][:, :-1])[:, whole:].abs().max() > 1e-2


@pytest.mark.parametrize("family", ["sdar", "sdar_moe", "llada2"])
@pytest.mark.parametrize("length", [21, 22])
@torch.no_grad()
def test_block_decode_of_a_text_that_ends_inside_a_block(family: str, length: int) -> None:
    """The recorded forwards of 22 tokens in blocks of 4 or 21 in blocks of 8, block by block."""
    model, block = golden_model(family), {21: 8, 22: 4}[length]
    tensors = load_file(GOLDEN / family / "expected.safetensors")
    clean = tensors[f"block_causal_b{block}_L{length}/input_ids"]
    expected = tensors[f"block_causal_b{block}_L{length}/logits"]
    assert length % block
    assert_close(decode_blocks(model, clean, clean, block, 8), expected[:, 8:])
    if block == 4:  # recorded as one forward of the noisy and the clean text
        noisy, clean = tensors["train_doubled_b4/input_ids"].chunk(2, 1)
        expected = tensors["train_doubled_b4/logits"]
        assert_close(decode_blocks(model, clean, noisy, block, 8), expected[:, 8:])


def published_loss(logits: Tensor, recorded: dict[str, Tensor], kind: str) -> Tensor:
    losses = F.cross_entropy(logits.transpose(1, 2), recorded["labels"], reduction="none")
    losses = losses * recorded["loss_mask"]
    if kind == "sdar_sft":
        return (losses / recorded["p_mask"]).sum() / recorded["n_answer"][0]
    assert kind == "tracerl_sft"
    return (losses.sum(1) / losses.shape[1]).mean()


def leave_experts_out_of_the_gradient(model: Model) -> None:
    """Stop the gradient of experts and their weights; the shared parts keep theirs.

    The published LLaDA2 code runs its experts under `no_grad` outside training mode, where the
    gradient was recorded. That ours flows through them is held by `test_moe.py`.
    """
    for module in model.modules():
        if isinstance(module, Experts):
            module.register_forward_hook(lambda _module, _inputs, output: output.detach())
        if isinstance(module, Router):
            module.register_forward_hook(lambda _module, _inputs, o: (o[0], o[1].detach()))


@pytest.mark.parametrize("case", cases("train"), indirect=True)
def test_training_layout(case: tuple[Model, Case, dict[str, Tensor]]) -> None:
    model, settings, recorded = case
    if model.spec.family == "llada2":
        leave_experts_out_of_the_gradient(model)
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


PACKS = [
    (family.name, name)
    for family in families()
    for name in ("train_doubled_b4", "train_packed_b4")
    if name in [case["name"] for case in recorded_cases(family.name)]
]


@pytest.mark.parametrize(("family", "name"), PACKS)
@torch.no_grad()
def test_the_structure_gives_the_published_masks(family: str, name: str) -> None:
    """Four integers per token and `sees` are the published mask, and a pack under them its logits."""
    model = golden_model(family)
    tensors = load_file(GOLDEN / family / "expected.safetensors")
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
