"""Layout: packs hold every target once, within the budget, and what is laid out is what was asked."""

import random
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.diffusion.trajectories import (
    CONVENTIONS,
    MASK,
    random_canvas,
    random_revising,
    random_trajectory,
    trajectories,
)
from tests.toy import toy_model
from unmask.diffusion.conventions import Conventions
from unmask.diffusion.layout import Pack, check_budget, pack_views
from unmask.diffusion.noise import NoiseSchedule
from unmask.diffusion.views import Views, views_of_responses, views_of_trajectory
from unmask.models.attention import sees
from unmask.models.heads import Targets
from unmask.models.tiled_attention import plan_documents

LARGE = 10_000
SHIFTED = replace(CONVENTIONS, is_shifted=True)
FULL = replace(CONVENTIONS, is_full=True)
FULL_SHIFTED = replace(SHIFTED, is_full=True)
ALL = {
    "block-causal": CONVENTIONS,
    "block-causal, shifted": SHIFTED,
    "full": FULL,
    "full, shifted": FULL_SHIFTED,
}
every_convention = pytest.mark.parametrize("conventions", ALL.values(), ids=ALL)
Origin = tuple[int, int, int]
Text = list[tuple[int, int]]  # positions and token ids


def some_views(
    count: int, seed: int = 0, block: int | None = None, conventions: Conventions = CONVENTIONS
) -> list[Views]:
    """Return views of random trajectories with a number of its own for every position."""
    rng = random.Random(seed)
    views: list[Views] = []
    for _ in range(count):
        size, num_prompt = block or rng.choice([2, 4]), rng.randrange(1, 12)
        drawn = random_canvas(rng, num_prompt), random_trajectory(rng, size, num_prompt)
        trajectory, shrink = drawn[not conventions.is_full], rng.choice([1, 2])
        look = views_of_trajectory(trajectory, rng.random(), shrink, is_full=conventions.is_full)
        views.append(replace(look, weight=torch.rand(look.weight.shape)))
    return views


def pack(
    views: list[Views], budget: int = LARGE, conventions: Conventions = CONVENTIONS
) -> list[Pack]:
    return pack_views(views, conventions, budget)


def origins(packs: list[Pack]) -> list[Origin]:
    return [(t, v, s) for p in packs for t, v, s in p.origin.T.tolist()]


def targets(views: list[Views]) -> list[Origin]:
    return [(t, v, s) for t, look in enumerate(views) for v, s in look.target.nonzero().tolist()]


@every_convention
@pytest.mark.parametrize("budget", [LARGE, 120, 60, 40])
def test_every_target_is_scored_once_within_the_budget(
    budget: int, conventions: Conventions
) -> None:
    views = some_views(20, conventions=conventions)
    packs = pack(views, budget, conventions)
    assert sorted(origins(packs)) == targets(views)
    assert all(len(p.tokens) <= budget for p in packs)
    assert len(packs) >= sum(len(p.tokens) for p in packs) / budget


@every_convention
def test_scored_rows_carry_the_numbers_of_their_position(conventions: Conventions) -> None:
    views = some_views(8, conventions=conventions)
    for p in pack(views, 60, conventions):
        for row, (t, v, s) in enumerate(p.origin.T.tolist()):
            look = views[t]
            assert p.tokens[p.rows[row]] == MASK or conventions.is_shifted
            assert p.positions[p.rows[row]] == len(look.prompt_ids) + s - conventions.is_shifted
            assert p.targets[row] == look.written()[v, s]
            assert p.weights[row] == look.weight[v, s]
            assert p.advantages[row] == look.advantages[s]
            assert p.behavior_logprobs[row] == look.behavior_logprobs[v, s]
            assert p.old_logprobs[row] == look.old_logprobs[v, s]
            assert p.temperatures[row] == look.temperature


@every_convention
def test_a_revising_trajectory_costs_its_passes(conventions: Conventions) -> None:
    """`P + C` and a block for each pass that writes; under full attention `P + C` for each such pass."""
    rng = random.Random(5)
    for _ in range(20):
        drawn, taken = random_revising(rng, 4, conventions.is_full, num_prompt=rng.randrange(1, 9))
        drawn = replace(drawn, num_response=len(drawn.canvas_ids))
        assert drawn.revisions or len(drawn.canvas_ids) < 4
        (p,) = pack(
            [views_of_trajectory(drawn, 1.0, is_full=conventions.is_full)], LARGE, conventions
        )
        num_tokens = len(drawn.prompt.token_ids) + len(drawn.canvas_ids)
        # A shifted model scores the first position of a block in the clean row before it.
        offset, first = len(drawn.prompt.token_ids) % 4, int(conventions.is_shifted)
        if conventions.is_full:
            expected = num_tokens * sum(bool(one.writes) for one in taken)
        else:
            copied = sum(any((offset + i) % 4 >= first for i in one.writes) for one in taken)
            # No scored row attends to the clean copy of the last block.
            expected = num_tokens - 4 + 4 * copied
        assert len(p.tokens) == expected
        assert len(p.targets) == sum(len(one.writes) for one in taken)


def texts_around(
    look: Views, view: int, position: int, conventions: Conventions
) -> tuple[Text, int]:
    """Return the inputs that predict a position: the tokens that are read, and the row's position."""
    num_prompt = len(look.prompt_ids)
    clean = [*look.prompt_ids.tolist(), *look.canvas_ids.tolist()]
    hidden = [False] * num_prompt + look.hidden[view].tolist()
    noisy = [MASK if is_hidden else token for token, is_hidden in zip(clean, hidden, strict=True)]
    place = num_prompt + position
    row = place - conventions.is_shifted
    if conventions.is_full:
        return list(enumerate(noisy)), row
    start = place // look.block * look.block
    before = list(enumerate(clean))[:start]
    if conventions.is_shifted and place == start:
        return before, row
    return before + list(enumerate(noisy))[start : start + look.block], row


def check_what_is_seen(p: Pack, views: list[Views], conventions: Conventions) -> None:
    """Compare what every scored row sees, and what everything that it sees sees, with the definition."""
    allowed = sees(p.structure[:, :, None], p.structure[:, None])
    tokens, positions = p.tokens.tolist(), p.positions.tolist()
    seen = [
        sorted((positions[key], tokens[key]) for key in row.nonzero()[:, 0].tolist())
        for row in allowed
    ]
    for row, (t, v, s) in zip(p.rows.tolist(), p.origin.T.tolist(), strict=True):
        text, position = texts_around(views[t], v, s, conventions)
        assert (seen[row], positions[row]) == (text, position)
        copy, block = p.structure[2, row], views[t].block
        for key in allowed[row].nonzero()[:, 0].tolist():
            end = (positions[key] // block + 1) * block
            is_clean = p.structure[2, key] != copy or copy == 0
            assert seen[key] == ([x for x in text if x[0] < end] if is_clean else text)


@every_convention
@given(st.data(), st.integers(1, 3))
def test_a_scored_row_sees_what_its_view_shows_and_nothing_else(
    conventions: Conventions, data: st.DataObject, shrink: int
) -> None:
    drawn = data.draw(st.lists(trajectories(conventions), min_size=1, max_size=3))
    drawn.append(drawn[0])  # two on one prompt
    views = [
        views_of_trajectory(t, 1.0, shrink, post_num=1, is_full=conventions.is_full) for t in drawn
    ]
    largest = max(len(v.prompt_ids) + len(v.canvas_ids) for v in views)
    for budget in (LARGE, largest, 2 * largest):
        packs = pack(views, budget, conventions)
        assert sorted(origins(packs)) == targets(views)
        for p in packs:
            assert len(p.tokens) <= budget
            check_what_is_seen(p, views, conventions)
            numbers = p.structure[0].unique().tolist()
            assert numbers == list(range(len(numbers))), "an empty document takes no number"


def test_a_shifted_block_alone_with_its_first_position_takes_no_noisy_copy() -> None:
    """Its row is the last of the prompt, which a second answer shares."""
    rng = random.Random(0)
    first = replace(random_trajectory(rng, 4, 8), step_map=(1, 2, 3, 4), num_response=1)
    first = replace(first, canvas_ids=(5, 6, 7, 8), behavior_logprobs=(-1.0,) * 4)
    source = [views_of_trajectory(first, 1.0), views_of_trajectory(first, 2.0)]
    (p,) = pack(source, 8, SHIFTED)
    assert p.tokens.tolist() == [*first.prompt.token_ids]
    assert p.rows.tolist() == [7, 7] and p.targets.tolist() == [5, 5]
    assert p.structure[0].unique().tolist() == [0]
    whole = replace(first, num_response=4)
    (p,) = pack([views_of_trajectory(whole, 1.0)], LARGE, SHIFTED)
    assert len(p.tokens) == 8 + 3 * 4
    assert p.positions[p.rows].tolist() == [7, 8, 9, 10]


def test_views_of_full_attention_are_documents_of_their_own() -> None:
    views = some_views(10, conventions=FULL)
    (p,) = pack(views, conventions=FULL)
    sizes = [len(v.prompt_ids) + len(v.canvas_ids) for v in views for _ in v.target]
    assert sorted(len(rows) for rows in documents(p).values()) == sorted(sizes)
    assert p.structure[3].unique().tolist() == [-1]


@pytest.mark.parametrize("conventions", [FULL, FULL_SHIFTED])
def test_a_view_above_the_budget_is_refused(conventions: Conventions) -> None:
    look = max(some_views(10, conventions=conventions), key=lambda look: len(look.canvas_ids))
    need = len(look.prompt_ids) + len(look.canvas_ids)
    assert pack([look], need, conventions)
    message = rf"optimizer.token_budget = {need - 1} is too small: one view takes {need}; raise it"
    with pytest.raises(ValueError, match=message):
        pack([look], need - 1, conventions)
    with pytest.raises(ValueError, match=message):
        check_budget(need, None, need - 1)


def test_the_row_before_the_first_position_must_exist() -> None:
    empty = views_of_trajectory(random_trajectory(random.Random(0), 4, 0), 1.0)
    with pytest.raises(AssertionError, match="no row is before the first position"):
        pack([empty], LARGE, SHIFTED)


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


def test_clean_text_is_laid_up_to_the_last_block_that_reads_it() -> None:
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


def test_answers_to_a_prompt_are_neighbours_whatever_their_lengths() -> None:
    """Two prompts of 40 tokens with answers of 8, 12, 16 and 20 each: packs of one prompt, not of one length."""
    rng = random.Random(0)
    views: list[Views] = []
    for size in (8, 12, 16, 20):
        for prompt in ((5,) * 40, (6,) * 40):
            step_map = tuple(range(1, size + 1))
            drawn = replace(
                random_trajectory(rng, 4, 40),
                canvas_ids=(7,) * size,
                step_map=step_map,
                num_response=size,
                behavior_logprobs=(-1.0,) * size,
            )
            drawn = replace(drawn, prompt=replace(drawn.prompt, token_ids=prompt))
            views.append(views_of_trajectory(drawn, 1.0))
    (whole,) = pack(views)
    packs = pack(views, len(whole.tokens) // 2)
    assert len(packs) == 2 and sum(len(p.tokens) for p in packs) == len(whole.tokens)


def test_prompts_of_other_digests_share_nothing() -> None:
    """The same ids may stand for different images."""
    rng = random.Random(3)
    prompt = tuple(rng.randrange(2, 20) for _ in range(22))
    one = views_of_trajectory(random_trajectory(rng, prompt_ids=prompt), 1.0)
    same, other = replace(one, prefix_digest=b"a"), replace(one, prefix_digest=b"b")
    (shared,), (apart,) = pack([same, same]), pack([same, other])
    assert len(apart.tokens) == len(shared.tokens) + 20


def test_prompts_of_the_same_whole_blocks_share_them() -> None:
    rng = random.Random(3)
    prefix = tuple(rng.randrange(2, 20) for _ in range(20))
    one, other, apart = (
        views_of_trajectory(random_trajectory(rng, prompt_ids=ids), 1.0)
        for ids in ((*prefix, 3), (*prefix, 4, 5), (7, *prefix[1:], 3))
    )
    alone = sum(len(pack([v])[0].tokens) for v in (one, other))
    (shared,) = pack([one, other])
    assert len(shared.tokens) == alone - 20
    alone = sum(len(pack([v])[0].tokens) for v in (one, apart))
    (separate,) = pack([one, apart])
    assert len(separate.tokens) == alone


def test_another_grid_shares_no_prompt() -> None:
    """The same eight tokens are two blocks of four or one of eight, and see each other accordingly."""
    rng = random.Random(4)
    prompt = tuple(range(2, 10))
    source = [
        views_of_trajectory(random_trajectory(rng, block, prompt_ids=prompt), 1.0)
        for block in (4, 8)
    ]
    (p,) = pack(source)
    prefixes = [p.structure[1, d].tolist() for d in documents(p).values() if len(d) == 8][:2]
    assert [0] * 4 + [1] * 4 in prefixes and [0] * 8 in prefixes


@pytest.mark.parametrize("budget", [36, 48])
def test_a_trajectory_above_the_budget_is_split_and_repeats_its_clean_text(budget: int) -> None:
    rng = random.Random(0)
    source = [views_of_trajectory(random_trajectory(rng, 4, 14), 1.0) for _ in range(30)]
    largest = max(source, key=lambda look: len(pack([look])[0].tokens))
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
    nothing = NoiseSchedule(0.0, 0.0)
    empty = views_of_responses([([5] * 6, [6, 7, 8])], 4, (nothing, 2), [0])[0]
    assert pack([empty]) == []
    look = some_views(1, block=4)[0]
    (p,) = pack([empty, look])
    assert len(p.tokens) == len(pack([look])[0].tokens)
    assert set(p.origin[0].tolist()) == {1}


@every_convention
def test_documents_are_numbered_from_zero_and_stand_together(conventions: Conventions) -> None:
    for p in pack(some_views(12, conventions=conventions), 80, conventions):
        document = p.structure[0]
        assert torch.equal(document, document.sort().values)
        assert document.unique().tolist() == list(range(int(document.max()) + 1))
        assert (p.structure[3] < document).all()


@every_convention
def test_a_filled_pack_scores_the_same(conventions: Conventions) -> None:
    """The filler that gives packs one shape on a GPU changes no score and no gradient."""
    attention = "full" if conventions.is_full else "block_causal"
    model = toy_model(dtype=torch.float64, attention=attention, is_shifted=conventions.is_shifted)
    found: list[Tensor] = []
    (plain,) = pack(some_views(3, conventions=conventions), 500, conventions)
    filled = plain.filled(512)
    for p in (plain, filled):
        model.zero_grad()
        targets = Targets(p.targets, p.temperatures)
        plan = plan_documents(p.structure)
        logprobs = model(p.tokens, p.positions, plan, p.rows, targets).logprobs
        logprobs.square().sum().backward()
        grads = [x.grad.flatten() for x in model.parameters() if x.grad is not None]
        found += [logprobs.detach(), torch.cat(grads)]
    assert len(plain.tokens) < plain.capacity == 500 < len(filled.tokens) == 512
    torch.testing.assert_close(found[2:], found[:2], rtol=0, atol=1e-10)


def test_a_full_pack_is_filled_already() -> None:
    (plain,) = pack(some_views(3), 500)
    full = plain.filled(512)
    assert torch.equal(full.filled(512).structure, full.structure)
    assert torch.equal(full.filled(512).tokens, full.tokens)


@every_convention
@pytest.mark.parametrize("budget", [LARGE, 120, 60, 40])
@pytest.mark.parametrize("size", [2, 3, 8])
def test_ranks_have_as_many_packs_and_score_every_target_once(
    size: int, budget: int, conventions: Conventions
) -> None:
    views = some_views(20, conventions=conventions)
    of_rank = [pack_views(views, conventions, budget, rank, size) for rank in range(size)]
    assert sorted(origins([p for packs in of_rank for p in packs])) == targets(views)
    (num_rounds,) = {len(packs) for packs in of_rank}
    assert num_rounds == -(-len(pack(views, budget, conventions)) // size), "the fewest rounds"
    assert all(len(p.tokens) <= p.capacity <= budget for packs in of_rank for p in packs)
    assert len({p.capacity for packs in of_rank for p in packs}) == 1, "one shape for a GPU"


def test_a_small_batch_keeps_all_ranks_busy() -> None:
    """One pack would hold it all, and leave three of four ranks without work."""
    views = some_views(40, block=4)
    sizes = [
        sum(len(p.tokens) for p in pack_views(views, CONVENTIONS, LARGE, r, 4)) for r in range(4)
    ]
    assert max(sizes) < 2 * min(sizes)
