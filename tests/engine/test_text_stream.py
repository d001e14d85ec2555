"""Pieces of a growing response: joined, they are its text, and their cost is linear."""

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.decoders import KINDS, Decoders, build_decoders, token_ids
from unmask.engine.text_stream import REPLACEMENT, TextStream


@pytest.fixture(scope="module")
def decoders(tmp_path_factory: pytest.TempPathFactory) -> Decoders:
    return build_decoders(tmp_path_factory.mktemp("tokenizers"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.integers(1, 6), st.integers(0, 4))
@pytest.mark.parametrize("kind", KINDS)
def test_pieces_are_the_start_of_the_whole_text(
    kind: str, decoders: Decoders, data: st.DataObject, block: int, num_held: int
) -> None:
    """Held back are the characters asked for, and those that may be incomplete."""
    ids_of, whole = decoders[kind]
    ids = data.draw(token_ids(ids_of))
    stream, joined = TextStream(whole, num_held), ""
    for start in range(0, len(ids), block):
        joined += stream.add(ids[start : start + block])
        text = whole(ids[: start + block])
        num_open = min(3, len(text) - len(text.rstrip(REPLACEMENT)))
        assert text.startswith(joined) and len(joined) >= len(text) - num_open - num_held
    assert whole(ids).startswith(joined)


@pytest.mark.parametrize("num_held", [0, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_decoded_tokens_are_linear_in_the_response(
    kind: str, num_held: int, decoders: Decoders
) -> None:
    ids_of, whole = decoders[kind]
    decoded: list[int] = []

    def counting(ids: Sequence[int]) -> str:
        decoded.append(len(ids))
        return whole(ids)

    totals: list[int] = []
    for repeats in (800, 1600):
        decoded.clear()
        ids = (ids_of * repeats)[:repeats]
        stream = TextStream(counting, num_held)
        for start in range(0, repeats, 4):
            stream.add(ids[start : start + 4])
        totals.append(sum(decoded))
    assert totals[1] < 2.2 * totals[0]


def test_a_character_comes_with_its_last_byte(decoders: Decoders) -> None:
    _, whole = decoders["bytes"]
    ids = [2 + byte for byte in range(256)]
    face = next(i for i in decoders["bytes"][0] if whole([i]) == REPLACEMENT)
    assert face in ids
    stream = TextStream(whole)
    assert stream.add([face]) == "" and stream.add(decoders["bytes"][0][:1]).endswith("a")
