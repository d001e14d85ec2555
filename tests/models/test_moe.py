"""Experts against a loop over tokens; grouped products against a loop over groups; a token's bits in any batch."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.models.toy import SIGMOID, SOFTMAX
from unmask.models.attention import ROW_TILE
from unmask.models.lora import LoRALinear
from unmask.models.moe import MixtureOfExperts, group_rows
from unmask.models.row_tile import products, row_tile
from unmask.models.spec import MoESpec
from unmask.models.stacked_linear import is_groupable

WIDTH = 12
SPECS = {
    "softmax": SOFTMAX,
    "renormalised softmax": replace(SOFTMAX, renormalises=True),
    "biased softmax and a shared one": replace(SOFTMAX, has_bias=True, shared_width=20),
    "grouped sigmoid": SIGMOID,
    "grouped sigmoid, one expert": replace(SIGMOID, num_active=1, renormalises=False),
    "grouped sigmoid, one group": replace(SIGMOID, num_groups=1, num_active_groups=1),
    "grouped sigmoid without a bias": replace(SIGMOID, has_bias=False, shared_width=0),
    "every expert": replace(SOFTMAX, num_active=6, renormalises=True),
}
every_kind = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())


def random_moe(
    spec: MoESpec, width: int = WIDTH, dtype: torch.dtype = torch.float64
) -> MixtureOfExperts:
    generator = torch.Generator().manual_seed(7)
    moe = MixtureOfExperts(width, spec).to(dtype)
    with torch.no_grad():
        for tensor in (*moe.parameters(), *moe.buffers()):
            scale = 0.3 if tensor.dim() == 1 else width**-0.5
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * scale)
    return moe


def random_tokens(count: int, width: int = WIDTH, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, width, generator=generator, dtype=torch.float64).to(dtype) * 2


def swiglu(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    opened = gate @ x
    return down @ (opened / (1 + (-opened).exp()) * (up @ x))


def choose(values: list[float], count: int) -> list[int]:
    return sorted(range(len(values)), key=lambda index: -values[index])[:count]


def choose_experts(scores: list[float], spec: MoESpec) -> list[int]:
    """Choose by score, from the groups whose two best scores have the largest sum."""
    size = spec.num_experts // spec.num_groups
    groups = [scores[start : start + size] for start in range(0, spec.num_experts, size)]
    kept = choose([sum(sorted(group)[-2:]) for group in groups], spec.num_active_groups)
    allowed = [s if i // size in kept else -math.inf for i, s in enumerate(scores)]
    return choose(allowed, spec.num_active)


def one_token(moe: MixtureOfExperts, x: Tensor, spec: MoESpec) -> Tensor:
    logits = moe.router.weight @ x
    is_sigmoid = spec.router == "grouped_sigmoid"
    weights = logits.sigmoid() if is_sigmoid else logits.exp() / logits.exp().sum()
    bias = moe.router.expert_bias if spec.has_bias else torch.zeros_like(logits)
    chosen = choose_experts((weights + bias).tolist(), spec)
    weights = weights if is_sigmoid else weights + bias
    total = sum(weights[expert] for expert in chosen) if spec.renormalises else 1.0
    mixed = torch.zeros_like(x)
    for expert in chosen:
        parts = (
            part.weight[expert] for part in (moe.experts.gate, moe.experts.up, moe.experts.down)
        )
        mixed = mixed + weights[expert] / total * spec.scale * swiglu(x, *parts)
    if moe.shared is not None:
        shared = (moe.shared.gate, moe.shared.up, moe.shared.down)
        mixed = mixed + swiglu(x, *(part.weight for part in shared))
    return mixed


@every_kind
def test_it_is_a_loop_over_tokens(spec: MoESpec) -> None:
    moe, x = random_moe(spec), random_tokens(23)
    expected = torch.stack([one_token(moe, token, spec) for token in x])
    torch.testing.assert_close(moe(x), expected, rtol=1e-12, atol=1e-12)


@every_kind
def test_gradients_are_those_of_the_loop(spec: MoESpec) -> None:
    def gradients(is_loop: bool) -> list[Tensor]:
        moe, x = random_moe(spec), random_tokens(9).requires_grad_()
        rows = [one_token(moe, token, spec) for token in x] if is_loop else list(moe(x))
        (torch.stack(rows) * random_tokens(9).cos()).sum().backward()
        return [
            t.grad if t.grad is not None else torch.zeros_like(t) for t in (x, *moe.parameters())
        ]

    for ours, theirs in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@every_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_the_bits_of_a_token_do_not_depend_on_other_tokens(
    spec: MoESpec, dtype: torch.dtype
) -> None:
    """In packs of whole tiles, as the model pads them: other tokens, other places, other counts."""
    moe, x = random_moe(spec, 32, dtype), random_tokens(5 * ROW_TILE, 32, dtype)
    together = moe(x)
    for start in range(0, len(x), ROW_TILE):
        rows = slice(start, start + ROW_TILE)
        assert moe(x[rows]).equal(together[rows])
    assert moe(x.flip(0)).flip(0).equal(together)
    crowd = x[:1].expand(ROW_TILE, -1)
    assert moe(crowd)[5].equal(together[0])


# Fewer and narrower experts than LLaDA2.0-mini's 256 of 512, for memory; the widths of sums are real.
LARGE = MoESpec(layers=(0,), num_experts=64, num_active=8, width=128)


def adapt(moe: MixtureOfExperts, rank: int) -> None:
    """Put adapters on the experts."""
    generator = torch.Generator().manual_seed(3)
    for name in ("gate", "up", "down"):
        stack = moe.experts.get_submodule(name)
        experts, out, width = stack.weight.shape
        a = torch.randn(experts, rank, width, generator=generator) * width**-0.5
        b = torch.randn(experts, out, rank, generator=generator)
        moe.experts.set_submodule(name, LoRALinear(stack, a, b, alpha=rank))


@pytest.mark.parametrize(
    ("dtype", "rtol", "rank"), [(torch.float32, 1e-5, 8), (torch.bfloat16, 2e-2, 0)]
)
def test_grouped_products_agree_with_the_loop_forward_and_backward(
    dtype: torch.dtype, rtol: float, rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative to the largest value: the loop adds up in another order on some processors."""
    found: list[list[Tensor]] = []
    for is_grouped in (True, False):
        moe, x = random_moe(LARGE, 2048, dtype), random_tokens(48, 2048, dtype).requires_grad_()
        if rank:
            adapt(moe, rank)
        assert all(is_groupable(p) for p in moe.experts.parameters())
        if not is_grouped:
            monkeypatch.setattr("unmask.models.stacked_linear.is_groupable", lambda weight: False)
        y = moe(x)
        (y * random_tokens(48, 2048, dtype).cos()).sum().backward()
        gradients = [t.grad for t in (x, *moe.parameters()) if t.grad is not None]
        # The tokens, the router, three stacks, and two matrices on each.
        assert len(gradients) == (11 if rank else 5)
        found.append([y.detach(), *gradients])
    for grouped, looped in zip(*found, strict=True):
        assert grouped.isfinite().all()
        assert float((grouped - looped).abs().max()) <= rtol * float(looped.abs().max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_the_bits_of_a_row_do_not_depend_on_the_size_of_its_group(dtype: torch.dtype) -> None:
    moe, x = random_moe(LARGE, 2048, dtype), random_tokens(48, 2048, dtype)
    tile = row_tile(products(moe.experts))
    together = moe(torch.cat((x, x, random_tokens(32, 2048, dtype))))
    for start in range(0, 48, tile):
        assert moe(x[start : start + tile]).equal(together[start : start + tile])
    assert together[48:96].equal(together[:48])


@pytest.mark.parametrize("fills_all", [False, True])
@pytest.mark.parametrize(("num_tokens", "tile"), [(0, 8), (1, 8), (3, 16), (50, 8)])
def test_choices_get_rows_of_their_own_in_groups_of_whole_tiles(
    num_tokens: int, tile: int, fills_all: bool
) -> None:
    generator = torch.Generator().manual_seed(num_tokens)
    chosen = torch.rand(num_tokens, 6, generator=generator).argsort(1)[:, :3]
    row, ends, num_rows = group_rows(chosen, 6, tile, fills_all)
    starts = [0, *ends.tolist()]
    assert len(row.unique()) == 3 * num_tokens and all(end % tile == 0 for end in starts)
    for expert, place in zip(chosen.flatten().tolist(), row.tolist(), strict=True):
        assert starts[expert] <= place < starts[expert + 1]
    for expert, count in enumerate(chosen.flatten().bincount(minlength=6).tolist()):
        count = max(count, int(fills_all))
        assert starts[expert + 1] - starts[expert] == -(-count // tile) * tile
    alike = group_rows(torch.zeros_like(chosen), 6, tile, fills_all)
    assert max(starts[-1], int(alike[1][-1])) <= num_rows == alike[2]


def test_every_expert_has_rows_in_training_and_chosen_ones_alone_in_sampling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Some GPUs leave the gradient of an expert without rows unwritten."""
    moe, x = random_moe(replace(SOFTMAX, num_active=1)), random_tokens(1)
    ends: list[list[int]] = []
    forward = moe.experts.forward

    def listened(grouped: Tensor, stops: Tensor) -> Tensor:
        ends.append(torch.diff(stops, prepend=stops.new_zeros(1)).tolist())
        return forward(grouped, stops)

    monkeypatch.setattr(moe.experts, "forward", listened)
    trained = moe(x)
    with torch.no_grad():
        assert moe(x).equal(trained)
    assert min(ends[0]) > 0 and sorted(ends[1])[:-1] == [0] * 5


@torch.no_grad()
def test_the_choice_is_made_in_fp32_and_the_result_has_the_tokens_format() -> None:
    moe, x = random_moe(SIGMOID, dtype=torch.bfloat16), random_tokens(16, dtype=torch.bfloat16)
    chosen, weights = moe.router(x)
    assert weights.dtype == torch.float32 and moe(x).dtype == torch.bfloat16
    wide = random_moe(SIGMOID, dtype=torch.bfloat16).float()
    assert chosen.equal(wide.router(x.float())[0])


@torch.no_grad()
def test_tokens_may_all_choose_the_same_experts() -> None:
    moe = random_moe(replace(SOFTMAX, has_bias=True))
    moe.router.expert_bias.copy_(torch.tensor([9.0, 0.0, 9.0, 0.0, 9.0, 0.0]))
    chosen, _ = moe.router(random_tokens(20))
    assert set(chosen.flatten().tolist()) == {0, 2, 4}
    assert moe(random_tokens(20)).isfinite().all()


def test_the_bias_is_no_parameter() -> None:
    moe = random_moe(SIGMOID)
    assert "router.expert_bias" in moe.state_dict()
    assert "router.expert_bias" not in dict(moe.named_parameters())
