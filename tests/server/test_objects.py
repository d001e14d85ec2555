"""Answer objects: pieces of text are certain when they are sent."""

from pathlib import Path

import pytest

from unmask.checkpoints.random_init import byte_tokenizer
from unmask.checkpoints.tokenizer import decode, encode
from unmask.engine.llm import LLM, Generation
from unmask.sampling_params import SamplingParams
from unmask.server.objects import CHAT, TEXT, Answer
from unmask.server.request import AnswerOptions, Asked
from unmask.types import Prompt


class Decoder:
    """The part of an `LLM` that an answer uses."""

    def __init__(self, directory: Path) -> None:
        self.tokenizer = byte_tokenizer(directory)

    def decode(self, token_ids: list[int]) -> str:
        return decode(token_ids, self.tokenizer)


def answer(directory: Path, stop: tuple[str, ...] = (), usage: bool = False) -> Answer:
    asked = Asked(
        (Prompt("serve", 0, (), (1,)),),
        SamplingParams(stop=stop),
        AnswerOptions(include_usage=usage),
    )
    decoder: LLM = Decoder(directory)  # pyright: ignore[reportAssignmentType]
    return Answer(TEXT, asked, decoder, "m")


def generation(text: str, token_ids: list[int]) -> Generation:
    rows = (0.0,) * len(token_ids)
    return Generation(
        text, tuple(token_ids), (1,) * len(token_ids), rows, "stop", 1, rows, rows, 0, str, (), str
    )


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_no_piece_ends_inside_a_character(size: int, tmp_path: Path) -> None:
    text = "a\u00e9\u4e00\N{GRINNING FACE}b\u00e9"
    made = answer(tmp_path)
    ids = encode(text, made._llm.tokenizer)  # pyright: ignore
    pieces: list[str] = []
    for start in range(0, len(ids), size):
        chunk = made.committed(0, ids[start : start + size])
        pieces += [chunk["choices"][0]["text"]] if chunk else []
    pieces += [c["choices"][0]["text"] for c in made.finished(0, generation(text, ids), 1.0)]
    assert "".join(pieces) == text
    assert "\ufffd" not in "".join(pieces)


def test_the_start_of_a_stop_text_is_held_back(tmp_path: Path) -> None:
    made = answer(tmp_path, stop=("END",))
    ids = encode("abEN", made._llm.tokenizer)  # pyright: ignore
    chunk = made.committed(0, ids)
    assert chunk is not None and chunk["choices"][0]["text"] == "ab"
    last = made.finished(0, generation("ab", [*ids, ids[0]]), 1.0)
    assert [c["choices"][0]["text"] for c in last] == [""]
    assert last[-1]["choices"][0]["finish_reason"] == "stop"


def test_counts_of_tokens_are_sent_if_they_are_asked_for(tmp_path: Path) -> None:
    assert answer(tmp_path).last() == []
    made = answer(tmp_path, usage=True)
    made.finished(0, generation("ab", [97, 98]), 1.0)
    (last,) = made.last()
    assert last["usage"] == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    assert last["choices"] == []


def test_chat_opens_each_response_with_its_role(tmp_path: Path) -> None:
    asked = Asked((Prompt("serve", 0, (), (1,)),), SamplingParams(n=2), AnswerOptions())
    decoder: LLM = Decoder(tmp_path)  # pyright: ignore[reportAssignmentType]
    openings = Answer(CHAT, asked, decoder, "m").openings()
    assert [one["choices"][0]["index"] for one in openings] == [0, 1]
    assert all(one["choices"][0]["delta"]["role"] == "assistant" for one in openings)
