"""Stop texts: found with the token that completes them, special tokens whole or passed over."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.decoders import KINDS, Decoders, build_decoders, token_ids
from tests.engine.states import ask, opened, request_of
from tests.engine.writers import Ask
from tests.toy import toy_model
from unmask.checkpoints.random_init import byte_tokenizer, init
from unmask.checkpoints.tokenizer import decode as decode_with
from unmask.checkpoints.tokenizer import encode, special_tokens
from unmask.engine.host_state import HostState, read_committed
from unmask.engine.llm import LLM
from unmask.engine.scheduler import Running
from unmask.engine.sequence_state import SequenceState
from unmask.engine.stop_texts import StopTexts, find_stop_texts
from unmask.engine.text_stream import REPLACEMENT
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt, Trajectory

ALPHABET = "..abcdefghijklmnopqrstuv"
# Ordinary tokens can spell the special ones.
SPECIAL = {30: "<a>", 31: "<b>", 33: "<|end|>"}
ORDINARY = [*"ab<>|", "<a", "end", "a>", ""]


def decode(ids: Sequence[int]) -> str:
    return "".join(ALPHABET[i] for i in ids)


plain_texts = partial(StopTexts, decode=decode, special={})


def decode_ordinary(ids: Sequence[int]) -> str:
    return "".join(ORDINARY[i] for i in ids if i not in SPECIAL)


Symbols = list[tuple[str, int, bool]]  # a text, which token it is of, whether that is special


def symbols_of(ids: Sequence[int]) -> Symbols:
    """Return ids as characters and whole special tokens."""
    found: Symbols = []
    for place, one in enumerate(ids):
        is_special = one in SPECIAL
        found += [(t, place, is_special) for t in ([SPECIAL[one]] if is_special else ORDINARY[one])]
    return found


def end_of(stop: str, symbols: Symbols, has_begun: bool = False) -> int | None:
    """Return how many tokens hold a stop text that begins with the first symbol, by trying."""
    if not symbols:
        return None
    (text, place, is_special), *others = symbols
    ends: list[int | None] = []
    if stop.startswith(text):
        rest = stop[len(text) :]
        ends.append(end_of(rest, others, True) if rest else place + 1)
    if is_special and has_begun:
        ends.append(end_of(stop, others, True))
    return min((end for end in ends if end is not None), default=None)


def first_end(stops: Sequence[str], ids: Sequence[int]) -> int:
    """Return how many ids hold a stop text, by trying; 0 where none does."""
    symbols = symbols_of(ids)
    ends = [end_of(stop, symbols[start:]) for stop in stops for start in range(len(symbols))]
    return min((end for end in ends if end is not None), default=0)


IDS = st.lists(st.sampled_from([*range(len(ORDINARY)), *SPECIAL]), max_size=14)
STOPS = st.lists(
    st.one_of(
        st.text(st.sampled_from("ab<>|"), min_size=1, max_size=4),
        st.lists(st.sampled_from([*SPECIAL.values(), "a", "b", "<"]), min_size=1, max_size=3).map(
            "".join
        ),
    ),
    min_size=1,
    max_size=2,
)


@given(IDS, STOPS, st.integers(1, 5))
def test_every_stop_text_is_found_block_by_block(
    ids: list[int], stops: list[str], block: int
) -> None:
    """What `length` finds as blocks are finished is where, by trying, the first stop text ends."""
    texts = StopTexts(stops, decode_ordinary, SPECIAL)
    found = num_read = 0
    while not found and num_read < len(ids):
        found = texts.length(ids[: num_read + block], num_read)
        num_read += block
    assert found == first_end(stops, ids)
    answer = texts.text_before(ids[:found] if found else ids)
    whole = decode_ordinary(ids)
    assert whole.startswith(answer) and not any(stop in answer for stop in stops)
    assert (answer == whole) or found


@pytest.mark.parametrize(
    ("ids", "stop", "length", "before"),
    [
        ((3, 0, 30, 1), "<a>", 3, ">a"),  # the special token
        ((0, 2, 0, 3, 1), "<a>", 4, "a"),  # the same, spelled
        ((0, 5, 3, 1), "<a>", 3, "a"),  # by two ordinary tokens
        ((0, 31, 30, 1), "<b><a>", 3, "a"),  # several special tokens
        ((0, 1, 30, 6, 33), "b<a>end<|end|>", 5, "a"),  # special and ordinary ones
        ((0, 2, 1, 3, 30), "<b><a>", 5, "a"),  # one spelled, the other special
        ((0, 31, 1, 1), "ab", 3, ""),  # one that is left out of the text stands between
        ((0, 30, 1), "a>", 0, "ab"),  # a part of a special token is no text
        ((0, 33, 1), "<", 0, "ab"),
        ((0, 7, 1), "a>", 2, "a"),
        ((7, 1), ">", 1, "a"),  # the token that completes it is cut
    ],
)
def test_special_tokens_match_whole_or_not_at_all(
    ids: tuple[int, ...], stop: str, length: int, before: str
) -> None:
    texts = StopTexts([stop], decode_ordinary, SPECIAL)
    assert texts.length(ids) == length
    assert texts.text_before(ids[: length or len(ids)]) == before


def test_a_special_token_that_begins_as_another_is_not_taken_for_it() -> None:
    texts = StopTexts(["b<a>"], decode_ordinary, {30: "<a>", 32: "<a"})
    assert texts.length((1, 30)) == 2 and texts.length((1, 32)) == 0


@pytest.fixture(scope="module")
def decoders(tmp_path_factory: pytest.TempPathFactory) -> Decoders:
    return build_decoders(tmp_path_factory.mktemp("tokenizers"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_text_is_found_where_the_whole_text_first_holds_it(
    kind: str, decoders: Decoders, data: st.DataObject
) -> None:
    """The slow twin decodes every prefix whole; broken characters and split ones included."""
    ids_of, whole = decoders[kind]
    ids = data.draw(token_ids(ids_of))
    text = whole(ids)
    starts = st.integers(0, max(len(text) - 1, 0))
    slices = st.tuples(starts, st.integers(1, 5)).map(lambda at: text[at[0] : at[0] + at[1]])
    stops = data.draw(st.lists(st.one_of(slices, st.sampled_from(["b", " a"])), min_size=1))
    stops = [stop for stop in stops if stop and REPLACEMENT not in stop] or ["none"]
    prefixes = range(1, len(ids) + 1)
    expected = next((n for n in prefixes if any(s in whole(ids[:n]) for s in stops)), 0)
    texts, block = StopTexts(stops, whole, {}), data.draw(st.integers(1, 6))
    blocks = range(0, len(ids), block)
    found = next(filter(None, (texts.length(ids[: n + block], n) for n in blocks)), 0)
    assert found == expected
    text = whole(ids[: found or len(ids)])
    places = [text.index(stop) for stop in stops if stop in text]
    assert texts.text_before(ids[: found or len(ids)]) == text[: min(places, default=len(text))]


@pytest.mark.parametrize("kind", KINDS)
def test_decoded_tokens_are_linear_in_the_response(kind: str, decoders: Decoders) -> None:
    ids_of, whole = decoders[kind]
    decoded: list[int] = []

    def counting(ids: Sequence[int]) -> str:
        decoded.append(len(ids))
        return whole(ids)

    texts = StopTexts(["<no such text>"], counting, {})
    totals: list[int] = []
    for repeats in (400, 800):
        decoded.clear()
        ids = (ids_of * repeats)[:repeats]
        assert not any(texts.length(ids[: n + 4], n) for n in range(0, repeats, 4))
        totals.append(sum(decoded))
    assert totals[1] < 2.2 * totals[0]


def test_the_cost_of_a_response_grows_with_its_length() -> None:
    decoded: list[int] = []

    def counting(ids: Sequence[int]) -> str:
        decoded.append(len(ids))
        return decode(ids)

    texts = StopTexts(["abc", "xy"], counting, {})
    totals: list[int] = []
    for length in (400, 800):
        decoded.clear()
        assert not any(texts.length([3] * end, end - 4) for end in range(4, length + 1, 4))
        totals.append(sum(decoded))
    assert totals[1] < 2.2 * totals[0]


def test_a_character_of_several_tokens_is_found(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer(tmp_path)
    special = special_tokens(tokenizer)
    assert special == {0: "<eos>", 1: "<mask>"}
    text = "aé\N{GRINNING FACE}b<eos>c"
    ids = encode(text, tokenizer)
    assert len(ids) == 1 + 2 + 4 + 1 + 1 + 1
    for stop, length, before in (
        ("\N{GRINNING FACE}", 7, "aé"),
        ("é\N{GRINNING FACE}b<eos>", 9, "a"),
        ("bc", 10, "aé\N{GRINNING FACE}"),
    ):
        texts = StopTexts([stop], lambda ids: decode_with(ids, tokenizer), special)
        for block in (1, 3, 10):
            found = (texts.length(ids[: n + block], n) for n in range(0, len(ids), block))
            assert next(filter(None, found)) == length
        assert texts.text_before(ids[:length]) == before


def test_a_special_token_ends_a_response(tmp_path: Path) -> None:
    """In the engine: the same response up to it, and its text is not part of the answer."""
    init(tmp_path / "m", "sdar")
    llm = LLM(tmp_path / "m")
    hot = SamplingParams(temperature=3.0, max_tokens=40, stop_token_ids=())
    seen = 0
    for seed in range(12):
        (free,) = llm.generate(["Hello"], replace(hot, seed=seed))
        if 0 in free.token_ids[:-5]:
            seen += 1
            asked = replace(hot, seed=seed, stop=("<eos>", "no such text"))
            (cut,) = llm.generate(["Hello"], asked)
            end = free.token_ids.index(0)
            assert cut.finish == "stop" and cut.token_ids == free.token_ids[: end + 1]
            assert cut.text == llm.decode(free.token_ids[:end])
    assert seen


def test_a_model_without_tokenizer_has_no_text() -> None:
    llm = LLM(toy_model())
    sampling = SamplingParams(stop=("a",))
    written = Trajectory(Prompt("toy", 0, ()), (5,), (1,), (0.0,), 1, "length", 0, sampling, 1)
    assert llm.text(written) == ""


def host_of(state: SequenceState) -> HostState:
    host = HostState()
    host.receive(host.send(state))
    return host


def running(*asks: Ask) -> tuple[SequenceState, dict[int, Running]]:
    state = opened(*asks)
    runs = {n: Running(request_of(n, one), [n + 1]) for n, one in enumerate(asks)}
    return state, runs


def stop_asks(*stops: str, max_tokens: int = 12) -> Ask:
    return ask(5, stop=tuple(stops), max_tokens=max_tokens)


def ended_by(
    state: SequenceState,
    host: HostState,
    runs: dict[int, Running],
    texts: Callable[[tuple[str, ...]], StopTexts] = plain_texts,
) -> list[int]:
    return find_stop_texts(state, runs, read_committed(state, host, runs), texts)


def written(state: SequenceState, text: str, start: int) -> HostState:
    for place, letter in enumerate(text):
        state.tokens[0, 5 + place] = ALPHABET.index(letter)
    state.set(start=torch.tensor([start]))
    return host_of(state)


@pytest.mark.parametrize(
    ("text", "stops", "length"),
    [
        ("abcdefg", ("cd",), 4),
        ("abcdefg", ("fg", "cd"), 4),
        ("abcdefg", ("g",), 7),
        ("abcdefg", ("xy",), 0),
        ("abcdefgh", ("gh",), 0),  # the block with h is not finished
    ],
)
def test_a_stop_text_ends_the_response_with_the_token_that_completes_it(
    text: str, stops: tuple[str, ...], length: int
) -> None:
    state, runs = running(stop_asks(*stops))
    ended = ended_by(state, written(state, text, 12), runs)
    assert ended == ([0] if length else [])
    assert int(state.num_response[0]) == length and bool(state.is_stop[0]) == bool(length)
    assert bool(state.active[0]) == (not length)


def test_a_stop_text_that_spans_blocks_is_found() -> None:
    state, runs = running(stop_asks("cd"))
    assert ended_by(state, written(state, "abc", 8), runs) == []
    assert ended_by(state, written(state, "abcdefg", 12), runs) == [0]
    assert int(state.num_response[0]) == 4


def test_a_stop_text_past_max_tokens_or_in_the_prompt_is_none() -> None:
    state, runs = running(stop_asks("d", "defg", max_tokens=3))
    state.set(num_response=torch.tensor([3]))
    assert ended_by(state, written(state, "abcd", 4), runs) == []
    assert "defg"[0] == decode([5]), "the prompt is full of it"


def test_nothing_is_decoded_twice() -> None:
    decoded: list[int] = []

    def counting(ids: Sequence[int]) -> str:
        decoded.append(1)
        return decode(ids)

    texts = partial(StopTexts, decode=counting, special={})
    state, runs = running(stop_asks("xy"), ask(3))
    host = written(state, "abcdefg", 12)
    for _ in range(5):
        ended_by(state, host, runs, texts)
    assert len(decoded) == 1
