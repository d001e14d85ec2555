"""Layout: packs hold every target once, within the budget, and what is laid out is what was asked."""

import random
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.diffusion.trajectories import MASK, random_trajectory
from unmask.diffusion.layout import Pack, pack_views
from unmask.diffusion.noise import NoiseSchedule
from unmask.diffusion.views import Views, views_of_responses, views_of_trajectory

LARGE = 10_000
Origin = tuple[int, int, int]


def some_views(count: int, seed: int = 0, block: int | None = None) -> list[Views]:
    """Return views of random trajectories with a number of its own for every slot."""
    rng = random.Random(seed)
    views: list[Views] = []
    for _ in range(count):
        trajectory = random_trajectory(rng, block or rng.choice([2, 4]))
        look = views_of_trajectory(trajectory, rng.random(), shrink=rng.choice([1, 2]))
        views.append(replace(look, weight=torch.rand(look.weight.shape)))
    return views


def pack(views: list[Views], budget: int = LARGE) -> list[Pack]:
    return pack_views(views, MASK, budget)


def origins(packs: list[Pack]) -> list[Origin]:
    return [(t, v, s) for p in packs for t, v, s in p.origin.T.tolist()]


def targets(views: list[Views]) -> list[Origin]:
    return [(t, v, s) for t, look in enumerate(views) for v, s in look.target.nonzero().tolist()]


@pytest.mark.parametrize("budget", [LARGE, 120, 60, 40])
def test_every_target_is_scored_once_within_the_budget(budget: int) -> None:
    views = some_views(20)
    packs = pack(views, budget)
    assert sorted(origins(packs)) == targets(views)
    assert all(len(p.tokens) <= budget for p in packs)
    assert len(packs) >= sum(len(p.tokens) for p in packs) / budget


def test_scored_rows_carry_the_numbers_of_their_slot() -> None:
    views = some_views(8)
    for p in pack(views, 60):
        for row, (t, v, s) in enumerate(p.origin.T.tolist()):
            look = views[t]
            assert p.tokens[p.rows[row]] == MASK
            assert p.positions[p.rows[row]] == len(look.prompt_ids) + s
            assert p.targets[row] == look.canvas_ids[s]
            assert p.weights[row] == look.weight[v, s]
            assert p.advantages[row] == look.advantages[s]
            assert p.behavior_logprobs[row] == look.behavior_logprobs[s]
            assert p.old_logprobs[row] == look.old_logprobs[v, s]
            assert p.temperatures[row] == look.temperature


def documents(p: Pack) -> dict[int, Tensor]:
    """Return which tokens belong to which document of a pack."""
    return {int(d): (p.structure[0] == d).nonzero()[:, 0] for d in p.structure[0].unique()}


def test_a_noisy_copy_is_its_block_of_the_view() -> None:
    views = some_views(6)
    (p,) = pack(views)
    for row, (t, v, s) in enumerate(p.origin.T.tolist()):
        look, block = views[t], views[t].block
        ids = torch.cat((look.prompt_ids, look.canvas_ids.masked_fill(look.hidden[v], MASK)))
        number = (len(look.prompt_ids) + s) // block
        same = (p.structure[:3] == p.structure[:3, p.rows[row], None]).all(0)
        assert int(p.structure[1, p.rows[row]]) == number
        assert p.tokens[same].tolist() == ids[number * block : (number + 1) * block].tolist()
        assert p.positions[same].tolist() == list(range(number * block, (number + 1) * block))


def test_clean_text_is_laid_as_far_as_somebody_reads_it() -> None:
    """`P + C + noisy blocks * K`, less the clean blocks from the last noisy one on."""
    for look in some_views(20, seed=1):
        (p,) = pack([look])
        noisy = look.target.shape[0] and int(p.structure[2].max())
        last = int(p.structure[1][p.rows].max()) * look.block
        assert len(p.tokens) == last + noisy * look.block
        is_clean = p.structure[2] == 0
        text = torch.cat((look.prompt_ids, look.canvas_ids))
        assert torch.equal(p.tokens[is_clean], text[:last])
        assert torch.equal(p.positions[is_clean], torch.arange(last))


def test_a_group_shares_its_prompt() -> None:
    rng = random.Random(3)
    prompt = tuple(rng.randrange(2, 20) for _ in range(22))
    group = [views_of_trajectory(random_trajectory(rng, prompt_ids=prompt), 1.0) for _ in range(4)]
    sizes = [len(pack([look])[0].tokens) for look in group]
    (p,) = pack(group)
    assert len(p.tokens) == sum(sizes) - 3 * 20
    assert Counter(p.structure[3].tolist())[-1] == 20
    assert p.structure[3].unique().tolist() == [-1, 0]


def test_another_grid_shares_no_prompt() -> None:
    """The same eight tokens are two blocks of four or one of eight, and see each other accordingly."""
    rng = random.Random(4)
    prompt = tuple(range(2, 10))
    looks = [
        views_of_trajectory(random_trajectory(rng, block, prompt_ids=prompt), 1.0)
        for block in (4, 8)
    ]
    (p,) = pack(looks)
    prefixes = [p.structure[1, d].tolist() for d in documents(p).values() if len(d) == 8][:2]
    assert [0] * 4 + [1] * 4 in prefixes and [0] * 8 in prefixes


@pytest.mark.parametrize("budget", [36, 48])
def test_a_trajectory_above_the_budget_is_split_and_repeats_its_clean_text(budget: int) -> None:
    rng = random.Random(0)
    looks = [views_of_trajectory(random_trajectory(rng, 4, 14), 1.0) for _ in range(10)]
    largest = max(looks, key=lambda look: look.target.sum())
    (whole,) = pack([largest])
    assert len(whole.tokens) > budget
    parts = pack([largest], budget)
    assert len(parts) > 1 and sorted(origins(parts)) == sorted(origins([whole]))
    for p in parts:
        last = int(p.structure[1].max()) * 4
        assert torch.equal(p.positions[p.structure[2] == 0], torch.arange(last))


def test_a_budget_below_one_block_and_its_text_is_refused() -> None:
    rng = random.Random(0)
    trajectory = random_trajectory(rng, 4, 30)
    look = views_of_trajectory(trajectory, 1.0)
    need = (30 + trajectory.num_response - 1) // 4 * 4 + 4
    assert pack([look], need)
    with pytest.raises(ValueError, match=rf"optimizer.token_budget = {need - 1} .* take {need}"):
        pack([look], need - 1)


def test_views_without_targets_take_no_space() -> None:
    nothing = NoiseSchedule(low=0.0, high=0.0, is_per_token=False, is_elbo=False)
    empty = views_of_responses([([5] * 6, [6, 7, 8])], 4, (nothing, 2), [0])[0]
    assert pack([empty]) == []
    look = some_views(1, block=4)[0]
    (p,) = pack([empty, look])
    assert len(p.tokens) == len(pack([look])[0].tokens)
    assert set(p.origin[0].tolist()) == {1}


def test_documents_are_numbered_from_zero_and_stand_together() -> None:
    for p in pack(some_views(12), 80):
        document = p.structure[0]
        assert torch.equal(document, document.sort().values)
        assert document.unique().tolist() == list(range(int(document.max()) + 1))
        assert (p.structure[3] < document).all()
