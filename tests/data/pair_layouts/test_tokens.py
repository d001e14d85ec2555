"""Pairs of token ids."""

import json
from pathlib import Path

import pytest

from tests.data.toy_pairs import read_pairs, vocabulary
from unmask.configs.pairs import PairsConfig
from unmask.data.pairs import pairs_of_source

IDS = {"prompt_ids": [5, 6], "chosen_ids": [7, 8], "rejected_ids": [9]}


def test_token_ids_keep_their_step_maps(tmp_path: Path) -> None:
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps([IDS | {"chosen_step_map": [2, 1], "rejected_step_map": [1]}]))
    (pair,) = pairs_of_source(PairsConfig(path=path), "data", vocabulary(tmp_path))
    assert (pair.chosen.response_ids, pair.chosen.step_map) == ((7, 8), (2, 1))
    assert (pair.rejected.response_ids, pair.rejected.step_map) == ((9,), (1,))
    assert pair.place.startswith("data.path = ") and pair.place.endswith("item 1")


def test_an_empty_answer_and_a_step_map_of_another_length_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'rejected_ids' is empty: there is nothing to prefer"):
        read_pairs(tmp_path, IDS | {"rejected_ids": []})
    with pytest.raises(ValueError, match="line 1: 'step_map' has 1 steps and the response 2"):
        read_pairs(tmp_path, IDS | {"chosen_step_map": [1]})
