"""The automaton over token ids, against walking the texts of tokens one by one."""

import itertools
import random
import re

import pytest
import torch

from tests.diffusion.automata import automaton_of, random_pattern
from unmask.diffusion import automaton as module
from unmask.diffusion.automaton import NEVER, build_automaton
from unmask.engine.structured import byte_automaton

LETTERS = "abc"
TEXTS = [b"", b"", b"a", b"b", b"c", b"ab", b"ba", b"abc", b"cc", b"\xc3", b"\xa9", b"a"]


def texts_automaton(pattern: str, stop_ids: tuple[int, ...] = (0,)):
    rows, finals = byte_automaton("regex", pattern)
    is_final = torch.zeros(len(rows), dtype=torch.bool)
    is_final[torch.tensor(finals)] = True
    drawable = torch.arange(len(TEXTS) + 2) != 1  # two ids more than the tokenizer has
    return build_automaton(torch.tensor(rows), is_final, TEXTS, stop_ids, drawable)


@pytest.mark.parametrize("seed", range(12))
def test_accepted_sequences_are_those_whose_texts_match(seed: int) -> None:
    """Every sequence of up to four tokens, against Python's `re`: prefixes that can go on, and matches."""
    pattern = random_pattern(random.Random(seed), LETTERS)
    automaton = automaton_of(pattern, LETTERS)
    matches = {
        text
        for length in range(7)
        for text in map("".join, itertools.product(LETTERS, repeat=length))
        if re.fullmatch(pattern, text)
    }
    for length in range(4):
        for text in map("".join, itertools.product(LETTERS, repeat=length)):
            state = automaton.walk([LETTERS.index(letter) + 2 for letter in text])
            is_match = state >= 0 and int(automaton.distance[state]) == 0
            assert is_match == (text in matches), (pattern, text)
            # `random_pattern` repeats at most three letters three times over, so short texts decide.
            if any(match.startswith(text) for match in matches):
                assert state >= 0, (pattern, text)
            if state >= 0:
                nearest = min((len(m) for m in matches if m.startswith(text)), default=None)
                if nearest is not None:
                    assert int(automaton.distance[state]) <= nearest - len(text)


def test_tokens_of_several_letters_and_parts_of_one() -> None:
    automaton = texts_automaton("(ab|ba)+c?é")
    for tokens, is_match in (
        ([5, 6, 4, 9, 10], True),  # ab ba c and the two bytes of an e with accent
        ([2, 3, 9, 10], True),
        ([11, 6, 2, 9, 10], False),  # a ba a
        ([7, 9, 10], True),  # abc
        ([5, 9], False),
    ):
        state = automaton.walk(tokens)
        assert (state >= 0 and int(automaton.distance[state]) == 0) == is_match, tokens
    # Tokens of one text are one class.
    assert automaton.classes[2] == automaton.classes[11]
    assert int(automaton.distance[0]) == 3
    assert automaton.walk([12]) == -1, "ids past the tokenizer's have no text"


def test_after_the_text_only_stop_tokens_follow() -> None:
    automaton = texts_automaton("ab?", stop_ids=(0, 8))
    ended = automaton.walk([2, 0])
    assert ended == automaton.num_states - 1 == automaton.walk([2, 8, 0, 8])
    assert int(automaton.distance[ended]) == 0
    assert automaton.walk([0]) == -1 and automaton.walk([2, 0, 3]) == -1


def test_a_stop_token_with_a_text_only_stops() -> None:
    automaton = texts_automaton("a*", stop_ids=(2,))
    assert automaton.walk([2]) == automaton.num_states - 1 and automaton.walk([11]) >= 0


def test_the_edges_are_the_table() -> None:
    automaton = texts_automaton("(a|b)*c{2}")
    table = torch.full_like(automaton.table, -1)
    table[automaton.source, automaton.token_class] = automaton.target
    assert torch.equal(table, automaton.table)
    assert (automaton.distance[automaton.target] < NEVER).all()
    for index in range(automaton.table.shape[1]):
        some = automaton.members[automaton.starts[index] : automaton.starts[index + 1]]
        assert (automaton.classes[some] == index).all() and some.tolist() == sorted(some.tolist())
    assert len(automaton.members) == len(TEXTS) + 2


def test_a_model_that_can_write_no_stop_token_is_refused() -> None:
    with pytest.raises(ValueError, match=r"stop_token_ids = \(\): structured output ends with"):
        texts_automaton("a", stop_ids=())
    with pytest.raises(ValueError, match="the model can write none of these"):
        texts_automaton("a", stop_ids=(1,))


def test_large_automata_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_EDGES", 3)
    with pytest.raises(ValueError, match="has 4 edges, more than 3: simplify it"):
        texts_automaton("[ab]c")
