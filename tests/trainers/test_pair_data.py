"""The pairs of a run: held out by their prompts, and counted."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.data.toy_pairs import vocabulary
from tests.toy import SPEC
from tests.trainers.toy_pairs import PAIRS, pairs_file
from unmask.configs.pairs import PairsConfig
from unmask.data.pairs import Pair, pairs_of_source
from unmask.trainers.pair_data import (
    PairSets,
    digest_of_pairs,
    read_pair_sets,
)
from unmask.trainers.schedule import num_steps


def read(place: Path, **keys: object) -> PairSets:
    config = PairsConfig.model_validate({"path": pairs_file(place), **keys})
    return read_pair_sets(config, partial(pairs_of_source, vocabulary=vocabulary(place)), SPEC)


def prompts(pairs: Sequence[Pair]) -> set[tuple[int, ...]]:
    return {pair.chosen.prompt_ids for pair in pairs}


def test_a_share_is_held_out_by_its_prompts(tmp_path: Path) -> None:
    everything = read(tmp_path)
    sets = read(tmp_path, validation=0.3)
    assert len(everything.train) == len(PAIRS) and not everything.validation
    assert len(sets.validation) == 2 and len(sets.train) == len(PAIRS) - 2
    assert not prompts(sets.train) & prompts(sets.validation)
    assert prompts(sets.train) | prompts(sets.validation) == prompts(everything.train)
    with pytest.raises(
        ValueError, match=r"pairs\.validation = 0\.99: 6 different prompts are too few"
    ):
        read(tmp_path, validation=0.99)


def test_a_file_is_held_out(tmp_path: Path) -> None:
    sets = read(tmp_path, validation=str(pairs_file(tmp_path)))
    assert sets.validation == sets.train


def test_the_digest_is_of_both_answers_in_their_order(tmp_path: Path) -> None:
    pairs = read(tmp_path).train
    turned = [Pair(pair.rejected, pair.chosen) for pair in pairs]
    assert digest_of_pairs(pairs) == digest_of_pairs(list(pairs)) != digest_of_pairs(turned)


def test_steps_of_epochs() -> None:
    assert num_steps(9, None, 6, 4) == 9
    assert [num_steps(9, epochs, 6, 4) for epochs in (0.1, 1, 2)] == [1, 2, 3]
