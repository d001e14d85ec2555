"""A batch asks for what is missing, and for no more rounds than it may."""

from tests.rollouts.toy_groups import group
from unmask.configs.rollout import FilterConfig
from unmask.rollouts.batch import Batch

GOOD, DULL = group((0.0, 1.0)), group((1.0, 1.0))


def test_it_is_filled_round_by_round() -> None:
    batch = Batch(3, FilterConfig(refill=5))
    asked: list[int] = []
    for groups in ([GOOD, DULL, DULL], [DULL, DULL], [GOOD, DULL], [GOOD]):
        assert batch.is_open
        asked.append(batch.missing)
        batch.add(groups)
    assert asked == [3, 2, 2, 1]
    assert not batch.is_open
    assert batch.groups == [GOOD, DULL, DULL, DULL, DULL, GOOD, DULL, GOOD]
    assert batch.kept == [GOOD] * 3
    assert batch.numbers() == {"groups_drawn": 8, "groups_trained": 3, "rollout_rounds": 4}


def test_rounds_end_also_when_nothing_is_kept() -> None:
    for refill in (0, 2):
        batch = Batch(1, FilterConfig(refill=refill))
        while batch.is_open:
            batch.add([DULL])
        assert (batch.num_rounds, batch.kept) == (1 + refill, [])


def test_the_first_round_has_the_seed_of_the_step_and_the_others_their_own() -> None:
    batch = Batch(1, FilterConfig(refill=9))
    seeds: list[int] = []
    while batch.is_open:
        seeds.append(batch.seed(7))
        batch.add([DULL])
    assert seeds[0] == 7
    assert len(set(seeds)) == len(seeds) == 10
