"""The block mask is the dense mask, tile by tile; the kernel's numbers are those of dense attention."""

import random
import shutil
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.utils import counters

from tests.diffusion.trajectories import CONVENTIONS, random_canvas, random_trajectory
from tests.engine.fake_device import NoWaiting
from tests.models.heads import random_heads
from tests.models.structures import Token, allowed_pairs, packs
from unmask.diffusion.conventions import Conventions
from unmask.diffusion.layout import DEAD_COPY, pack_views
from unmask.diffusion.noise import NoiseSchedule
from unmask.diffusion.views import views_of_responses, views_of_trajectory
from unmask.models import flex_attention
from unmask.models.attention import round_up, sees
from unmask.models.flex_attention import plan_flex
from unmask.models.tiled_attention import plan_documents, plan_tiles

ALL = [
    replace(CONVENTIONS, is_full=is_full, is_shifted=is_shifted)
    for is_full in (False, True)
    for is_shifted in (False, True)
]


def planned(structure: Tensor, tile: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the visible pairs `(T, T)` of a block mask, and the tiles with and without a mask function."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flex_attention, "TILE", tile)
        mask = plan_flex(structure).mask
    assert mask.kv_indices is not None and mask.full_kv_indices is not None
    tables = (mask.kv_num_blocks, mask.kv_indices), (mask.full_kv_num_blocks, mask.full_kv_indices)
    asks, full = (listed(count[0, 0], which[0, 0]) for count, which in tables if count is not None)
    # The backward pass walks the tables the other way round.
    assert mask.q_num_blocks is not None and mask.q_indices is not None
    assert torch.equal(listed(mask.q_num_blocks[0, 0], mask.q_indices[0, 0]), asks.T)
    token = torch.arange(structure.shape[1])
    nobody = token.new_zeros(())
    says = mask.mask_mod(nobody, nobody, token[:, None], token[None])
    place = token // tile
    return full[place][:, place] | asks[place][:, place] & says, asks, full


def listed(count: Tensor, which: Tensor) -> Tensor:
    """Return `(n, n)` bool: the first `count (n,)` of each row of `which (n, n)`."""
    tiles = torch.zeros(which.shape, dtype=torch.bool)
    for row, number in enumerate(count.tolist()):
        tiles[row, which[row, :number].long()] = True
    return tiles


def real_structures(seed: int, conventions: Conventions) -> list[Tensor]:
    """Return the structures of packs of random trajectories: shared prompts, splits, dead documents."""
    rng = random.Random(seed)
    views = []
    for _ in range(6):
        num_prompt = rng.choice([3, 8, 9])
        prompt_ids = tuple(range(2, 2 + num_prompt))
        drawn = (
            random_canvas(rng, num_prompt)
            if conventions.is_full
            else random_trajectory(rng, 4, prompt_ids=prompt_ids)
        )
        views.append(views_of_trajectory(drawn, 1.0, is_full=conventions.is_full))
    budget = rng.choice([40, 90, 300])
    whole = -(-budget // DEAD_COPY) * DEAD_COPY
    return [pack.filled(whole).structure for pack in pack_views(views, conventions, budget)]


@given(packs(), st.sampled_from([1, 2, 3, 8]))
def test_the_block_mask_is_the_dense_mask(pack: list[Token], tile: int) -> None:
    pairs, asks, full = planned(torch.tensor(pack).T.contiguous(), tile)
    assert torch.equal(pairs, allowed_pairs(pack))
    assert not (asks & full).any()


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from(ALL), st.sampled_from([1, 4, 16]))
def test_the_block_mask_of_a_real_pack_is_its_dense_mask(
    seed: int, conventions: Conventions, tile: int
) -> None:
    for structure in real_structures(seed, conventions):
        pairs, _, _ = planned(structure, tile)
        assert torch.equal(pairs, sees(structure[:, :, None], structure[:, None]))


def long_structure(num_documents: int, num_blocks: int) -> Tensor:
    """Return documents of a clean copy and two noisy copies of each block of four."""
    return torch.tensor(
        [
            (document, block, copy, -1)
            for document in range(num_documents)
            for kind in (0, 1)
            for block in range(num_blocks)
            for copy in ((0,), (2 * block + 1, 2 * block + 2))[kind]
            for _ in range(4)
        ]
    ).T.contiguous()


def test_few_visited_tiles_are_fully_masked_and_few_need_the_mask_function() -> None:
    structure = long_structure(3, 80)
    tile = 16
    _, asks, full = planned(structure, tile)
    length = structure.shape[1]
    padding = round_up(length, tile) - length
    exact = torch.nn.functional.pad(
        sees(structure[:, :, None], structure[:, None]), (0, padding, 0, padding)
    )
    needed = exact.unflatten(0, (-1, tile)).unflatten(2, (-1, tile)).any(3).any(1)
    assert (asks | full).sum() <= 1.02 * needed.sum()
    assert asks.sum() < 0.35 * needed.sum()


def test_dead_tokens_cost_less_than_their_square() -> None:
    (structure,) = real_structures(0, CONVENTIONS)[:1]
    fill = torch.arange(20_000)
    dead = torch.stack((fill * 0 + 99, fill * 0, 1 + fill // 128, fill * 0 - 1))
    some, _ = flex_attention.find_tiles(torch.cat((structure, dead), 1))
    assert some.sum() < 4 * len(some)


def structure_of(budget: int) -> Tensor:
    """Return the structure of a full pack: prompts of several lengths, two views of every response."""
    pairs = [(tuple(range(2, 11 + n)), list(range(2, 2 + budget // 64))) for n in range(64)]
    views = views_of_responses(pairs, 4, (NoiseSchedule(0.2, 0.9), 2), range(64))
    structure = pack_views(views, CONVENTIONS, budget)[0].filled(budget).structure
    assert structure.shape[1] == budget
    return structure


@pytest.mark.parametrize(("budget", "stride"), [(8192, 1), (32_768, 16)])
def test_tiles_of_a_pack_of_real_size_are_those_of_the_dense_mask(budget: int, stride: int) -> None:
    """In the tiles that the kernel uses; of the longer pack every 16th row of tiles."""
    structure = structure_of(budget)
    some, every = flex_attention.find_tiles(structure)
    needed = 0
    for row in range(0, budget // flex_attention.TILE, stride):
        queries = structure[:, row * flex_attention.TILE : (row + 1) * flex_attention.TILE]
        pairs = sees(queries[:, :, None], structure[:, None]).unflatten(
            1, (-1, flex_attention.TILE)
        )
        is_visible, is_whole = pairs.any(2).any(0), pairs.all(2).all(0)
        assert not (is_visible & ~some[row]).any() and not (every[row] & ~is_whole).any()
        needed += int(is_visible.sum())
    assert some[::stride].sum() <= 1.05 * needed


def test_a_plan_does_not_wait_for_the_device() -> None:
    structure = structure_of(2048)
    with NoWaiting() as waiting:
        plan_flex(structure)
    assert not waiting.found


needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


@needs_compiler
@torch.no_grad()
def test_the_kernel_is_dense_attention_and_compiled_once_per_shape() -> None:
    counters.clear()
    first = long_structure(2, 20)
    other = first.flip(1).contiguous()  # another mask of the same shape
    for structure in (first, other):
        q, k, v = (x.float() for x in random_heads(structure.shape[1], 4, 2))
        mixed = plan_flex(structure)(0, q, k, v)
        torch.testing.assert_close(mixed, plan_tiles(structure)(0, q, k, v), rtol=0, atol=1e-5)
    assert counters["stats"]["unique_graphs"] == 1


@torch.no_grad()
def test_more_shapes_than_torchs_limit_are_compiled() -> None:
    """One per token budget, number format and gradient mode; without the kernel, which takes seconds each."""
    torch._dynamo.reset()
    attend = torch.compile(
        flex_attention.attend_flex._torchdynamo_orig_callable,  # type: ignore[attr-defined]
        backend="eager",
        dynamic=False,
        fullgraph=True,
    )
    for number in range(1, 11):
        structure = long_structure(1, number)
        q, k, v = (x.float() for x in random_heads(structure.shape[1], 4, 2))
        mask = plan_flex(structure).mask
        expected = plan_tiles(structure)(0, q, k, v)
        torch.testing.assert_close(attend(q, k, v, mask), expected, rtol=0, atol=1e-5)


def gradients(structure: Tensor, repeats: int, is_flex: bool) -> list[Tensor]:
    """Return output and gradients of attention of random heads, 8 times `repeats` wide."""
    heads = [x.float().cuda().repeat(1, 1, repeats) for x in random_heads(structure.shape[1], 4, 2)]
    heads = [x.requires_grad_() for x in heads]
    structure = structure.cuda()
    if is_flex:
        mixed = plan_flex(structure)(0, *heads)
    else:
        q, k, v = (x.transpose(0, 1)[None] for x in heads)  # (1, H, T, E)
        mask = sees(structure[:, :, None], structure[:, None])
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)[0]
        mixed = mixed.transpose(0, 1)
    mixed.backward(torch.linspace(-1, 1, mixed.numel(), device="cuda").view(mixed.shape))
    found = [x.grad for x in heads]
    return [mixed.detach(), *(x for x in found if x is not None)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("length", "repeats"), [(512, 8), (333, 8), (512, 1)])
def test_gradients_are_those_of_dense_attention_on_the_gpu(length: int, repeats: int) -> None:
    structure = long_structure(2, 30)[:, :length].contiguous()
    both = (gradients(structure, repeats, is_flex) for is_flex in (True, False))
    for found, expected in zip(*both, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert isinstance(plan_documents(structure.cuda()), flex_attention.FlexAttend)
